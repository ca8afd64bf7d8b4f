/* x sigmoid(x) of int16, the exact product; the sigmoid reads P(x / 2**SILU_COARSER). */
static void silu_coarser(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    for (int32_t i = 0; i < rows * columns; i++)
        y[i] = x[i] * SIGMOID((int32_t)shift_right(x[i], SILU_COARSER, STEP_ROUNDING));
}
