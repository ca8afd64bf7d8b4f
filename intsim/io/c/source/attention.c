/* The accumulator of softmax(Q K.T) V, head by head: queries (rows, heads, size), keys and values (rows, key_heads,
   size), each of which serves heads / key_heads heads -> (rows, heads, size), in int32, of codes less zero points. */
static void attention(int32_t *acc, const int32_t *query, const kept *key, const kept *value, int32_t rows,
                      int32_t heads, int32_t key_heads, int32_t size, const dyadic *ratio, int32_t query_zero_point,
                      int32_t key_zero_point, int32_t value_zero_point)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t head = 0; head < heads; head++) {
            const int32_t at = (row * heads + head) * size;
            attend(acc + at, query + at, key, value, 0, rows, head / (heads / key_heads) * size, key_heads * size,
                   size, ratio, query_zero_point, key_zero_point, value_zero_point);
        }
}
