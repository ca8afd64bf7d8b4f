/* x sigmoid(1.702 x) of int16 by shifts (Li & Gu 2023); m is the largest of the row:
       y = x (exp(x - m) over exp(x - m) + exp(-m)) */
static void shiftgelu(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        int64_t largest = x[0];
        for (int32_t c = 1; c < columns; c++)
            largest = x[c] > largest ? x[c] : largest;
        const int64_t enough = -(32 - SHIFTGELU_BITS) * SHIFTGELU_0; /* exp of it is beyond 2**31 */
        const int64_t other = shift_exp(-largest < enough ? -largest : enough, SHIFTGELU_0, SHIFTGELU_BITS);
        for (int32_t c = 0; c < columns; c++) {
            const int64_t e = shift_exp(x[c] - largest, SHIFTGELU_0, SHIFTGELU_BITS);
            y[c] = saturate(x[c] * share(e, e + other), INT32_MIN, INT32_MAX);
        }
    }
}
