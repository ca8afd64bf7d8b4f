/* The same where a token sees itself and those before it only, and of these the last ``window``. ``past`` tokens were
   read before: keys and values are of all past + rows. */
static void causal_attention(int32_t *acc, const int32_t *query, const kept *key, const kept *value, int32_t past,
                             int32_t rows, int32_t window, int32_t heads, int32_t key_heads, int32_t size,
                             const dyadic *ratio, int32_t query_zero_point, int32_t key_zero_point,
                             int32_t value_zero_point)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t head = 0; head < heads; head++) {
            const int32_t at = (row * heads + head) * size, columns = past + row + 1;
            attend(acc + at, query + at, key, value, columns > window ? columns - window : 0, columns,
                   head / (heads / key_heads) * size, key_heads * size, size, ratio, query_zero_point, key_zero_point,
                   value_zero_point);
        }
}
