/* Rotary embedding (Su et al. 2021): of the ``size`` channels of a head the pairs (i, i + pairs) are turned, the others
   pass through; cos and sin (rows, pairs) have 14 fraction bits. */
static void rotary_halves(int32_t *y, const int32_t *x, const int32_t *cos, const int32_t *sin, int32_t rows,
                          int32_t heads, int32_t size, int32_t pairs)
{
    for (int32_t row = 0; row < rows; row++, cos += pairs, sin += pairs)
        for (int32_t head = 0; head < heads; head++, x += size, y += size) {
            for (int32_t i = 0; i < pairs; i++) {
                y[i] = turned(x[i], cos[i], x[i + pairs], -sin[i]);
                y[i + pairs] = turned(x[i + pairs], cos[i], x[i], sin[i]);
            }
            for (int32_t d = 2 * pairs; d < size; d++)
                y[d] = x[d];
        }
}
