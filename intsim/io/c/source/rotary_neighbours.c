/* Rotary embedding (Su et al. 2021): of the ``size`` channels of a head the pairs (2 i, 2 i + 1) are turned, the others
   pass through; cos and sin (rows, pairs) have 14 fraction bits. */
static void rotary_neighbours(int32_t *y, const int32_t *x, const int32_t *cos, const int32_t *sin, int32_t rows,
                              int32_t heads, int32_t size, int32_t pairs)
{
    for (int32_t row = 0; row < rows; row++, cos += pairs, sin += pairs)
        for (int32_t head = 0; head < heads; head++, x += size, y += size) {
            for (int32_t i = 0; i < pairs; i++) {
                y[2 * i] = turned(x[2 * i], cos[i], x[2 * i + 1], -sin[i]);
                y[2 * i + 1] = turned(x[2 * i + 1], cos[i], x[2 * i], sin[i]);
            }
            for (int32_t d = 2 * pairs; d < size; d++)
                y[d] = x[d];
        }
}
