/* One query of one head over the columns first ... columns - 1: its keys begin at ``offset`` in rows of ``stride``. */
static void attend(int32_t *acc, const int32_t *query, const kept *key, const kept *value, int32_t first,
                   int32_t columns, int32_t offset, int32_t stride, int32_t size, const dyadic *ratio,
                   int32_t query_zero_point, int32_t key_zero_point, int32_t value_zero_point)
{
    static int32_t scores[MODEL_LONGEST], probs[MODEL_LONGEST];
    for (int32_t j = first; j < columns; j++) {
        const kept *k = key + (size_t)j * stride + offset;
        scores[j] = 0;
        for (int32_t d = 0; d < size; d++)
            scores[j] += (query[d] - query_zero_point) * (k[d] - key_zero_point);
    }
    SOFTMAX(probs, scores, first, columns, ratio);
    for (int32_t d = 0; d < size; d++)
        acc[d] = 0;
    for (int32_t j = first; j < columns; j++) {
        const kept *v = value + (size_t)j * stride + offset;
        for (int32_t d = 0; d < size; d++)
            acc[d] += probs[j] * (v[d] - value_zero_point);
    }
}
