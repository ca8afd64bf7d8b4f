/* L of exp(x) ~ L / 2**z for x <= 0, as I-BERT's released code has it; constants and x_0 are negative where it says so:
       z = floor(max(x, 30 x_0) / x_0),   r = max(x, 30 x_0) - x_0 z,   L = (r + q_b) r + q_c < 2**30 */
static int64_t ibert_exp(int64_t x, int *z)
{
    x = x < 30 * IBERT_EXP_0 ? 30 * IBERT_EXP_0 : x;
    *z = (int)(x / IBERT_EXP_0);
    const int64_t r = x - IBERT_EXP_0 * *z;
    return (r + IBERT_EXP_B) * r + IBERT_EXP_C;
}
