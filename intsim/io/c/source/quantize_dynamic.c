/* Symmetric codes relative to a bound: saturate(R((x - zero_point) unit high / bound)), 0 where the bound is 0. */
static void quantize_dynamic(int32_t *y, const int32_t *x, const int64_t *bound, int bound_step, int32_t rows,
                             int32_t columns, int32_t unit, int32_t zero_point, int32_t low, int32_t high)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t c = 0; c < columns; c++) {
            const int32_t at = row * columns + c;
            const int64_t divisor = bound[row * bound_step], dividend = ((int64_t)x[at] - zero_point) * unit * high;
            y[at] = divisor > 0 ? saturate(divide(dividend, divisor, ROUNDING), low, high) : 0;
        }
}
