/* GELU of int16 as I-BERT's released code has it; all constants are negative:
       q_erf = floor(sgn(x) ((min(|x|, -q_b) + q_b)**2 + q_c) / 2**14),   y = x (q_erf + q_1) */
static void ibert_gelu(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    for (int32_t i = 0; i < rows * columns; i++) {
        const int64_t magnitude = absolute(x[i]), clipped = (magnitude < -GELU_B ? magnitude : -GELU_B) + GELU_B;
        const int64_t sign = (x[i] > 0) - (x[i] < 0);
        y[i] = saturate(x[i] * (asr(sign * (clipped * clipped + GELU_C), 14) + GELU_1), INT32_MIN, INT32_MAX);
    }
}
