/* P(sum over tokens of (x - zero_point) / tokens) of each channel. */
static void mean_pooling(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, int32_t zero_point)
{
    for (int32_t c = 0; c < columns; c++) {
        int64_t sum = 0;
        for (int32_t row = 0; row < rows; row++)
            sum += (int64_t)x[row * columns + c] - zero_point;
        y[c] = saturate(divide(sum, rows, STEP_ROUNDING), INT32_MIN, INT32_MAX);
    }
}
