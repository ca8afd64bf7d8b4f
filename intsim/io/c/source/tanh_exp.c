/* tanh of int16, from e = EXP(-|x|) = e**-2|x| and one = EXP(0): sgn(x) P((one - e) * 2**f / (one + e)),
   f = TANH_FRACTION. */
static void tanh_exp(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    const int64_t one = EXP(0);
    for (int32_t i = 0; i < rows * columns; i++) {
        const int64_t e = EXP(x[i] < 0 ? x[i] : -x[i]);
        const int64_t magnitude = divide((one - e) * (INT64_C(1) << TANH_FRACTION), one + e, STEP_ROUNDING);
        y[i] = (int32_t)(x[i] < 0 ? -magnitude : x[i] > 0 ? magnitude : 0);
    }
}
