/* 1 / (1 + e**-x) of int16, from e = EXP(-|x|) and one = EXP(0): s = P(one * 2**f / (one + e)), f = SIGMOID_FRACTION;
   2**f - s for x < 0. */
static int32_t sigmoid_exp(int32_t x)
{
    const int64_t one = EXP(0), e = EXP(x < 0 ? x : -x);
    const int64_t s = divide(one * (INT64_C(1) << SIGMOID_FRACTION), one + e, STEP_ROUNDING);
    return (int32_t)(x >= 0 ? s : (INT64_C(1) << SIGMOID_FRACTION) - s);
}
