/* Softmax of ITA's circuit over the scores first ... columns - 1, base 2 and in codes of 1 / 256, on int8 codes x, of
   which it takes ITA_COLUMNS at a time: where they bring a larger maximum m, the sum so far is shifted down.
       s_j = RHU((m - x_j) / 2**shift),   sum = sum_j floor(2**8 / 2**s_j)
       probs_j = min(floor(floor(255 * 2**8 / sum) / 2**s_j), 255) */
static void ita_softmax(int32_t *probs, const int32_t *acc, int32_t first, int32_t columns, const dyadic *ratio)
{
    int32_t largest = -128;
    int64_t sum = 0;
    for (int32_t start = first / ITA_COLUMNS * ITA_COLUMNS; start < columns; start += ITA_COLUMNS) {
        const int32_t begin = start > first ? start : first;
        const int32_t end = columns - start < ITA_COLUMNS ? columns : start + ITA_COLUMNS, before = largest;
        for (int32_t j = begin; j < end; j++) {
            probs[j] = REQUANTIZED(acc[j], ratio->multiplier[0], ratio->shift[0], 0, 0, INT8_MIN, INT8_MAX);
            largest = probs[j] > largest ? probs[j] : largest;
        }
        sum = asr(sum, ita_halvings((int64_t)largest - before));
        for (int32_t j = begin; j < end; j++)
            sum += asr(256, ita_halvings((int64_t)largest - probs[j]));
    }
    const int64_t inverse = (255 << 8) / (sum > 0 ? sum : 1);
    for (int32_t j = first; j < columns; j++)
        probs[j] = saturate(asr(inverse, ita_halvings((int64_t)largest - probs[j])), 0, 255);
}
