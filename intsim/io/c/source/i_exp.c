/* e**x for -2**15 <= x <= 0 by i-exp (Kim et al. 2021, Algorithm 2): range reduction to (-ln 2, 0], then a polynomial.
       q = x * 2**guard,   z = floor(-q / q_ln2),   p = q + z q_ln2,   L = (p + q_b)**2 + q_c
       e = P(L / 2**(z + output_shift)) < 2**31 */
static int32_t i_exp(int32_t x)
{
    const int64_t q = x * (INT64_C(1) << EXP_GUARD_BITS), z = -q / EXP_LN2, p = q + z * EXP_LN2;
    return (int32_t)shift_right((p + EXP_B) * (p + EXP_B) + EXP_C, (int)z + EXP_OUTPUT_SHIFT, STEP_ROUNDING);
}
