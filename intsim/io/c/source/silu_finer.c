/* x sigmoid(x) of int16, the exact product; the sigmoid reads x in SILU_FINER more fraction bits, saturated. */
static void silu_finer(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    for (int32_t i = 0; i < rows * columns; i++)
        y[i] = x[i] * SIGMOID(saturate(x[i] * (INT64_C(1) << SILU_FINER), INT16_MIN, INT16_MAX));
}
