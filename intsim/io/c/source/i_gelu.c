/* x Phi(x) of int16 by i-GELU (Kim et al. 2021, Algorithm 3); q_b and q_1 are negative:
       q_erf = sgn(x) ((min(|x|, -q_b) + q_b)**2 + q_1),   y = P(-x (q_erf + q_1) / 2**output_shift)
   |x (q_erf + q_1)| < 2**39. */
static void i_gelu(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    for (int32_t i = 0; i < rows * columns; i++) {
        const int64_t magnitude = absolute(x[i]), clipped = (magnitude < -GELU_B ? magnitude : -GELU_B) + GELU_B;
        const int64_t sign = (x[i] > 0) - (x[i] < 0), erf = sign * (clipped * clipped + GELU_1);
        y[i] = saturate(shift_right(-x[i] * (erf + GELU_1), GELU_OUTPUT_SHIFT, STEP_ROUNDING), INT32_MIN, INT32_MAX);
    }
}
