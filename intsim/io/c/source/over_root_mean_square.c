/* One row of c = scale x - offset over its root mean square, brought to 16 bits by a shift of its own. With N = columns
   and f = NORM_FRACTION:
       k = max(least, bits(max |c|) - 15),   c' = P(c / 2**k),   v = N sum c'**2 + eps_k
       y = P(N c' * 2**f / isqrt(v)),   out = affine(y)
   |c| < 2**46, so k <= 31 and v < 2**62. */
static void over_root_mean_square(int32_t *y, const int32_t *x, int32_t columns, int64_t scale, int64_t offset,
                                  const norm_params *params)
{
    int64_t largest = 0, squares = 0;
    for (int32_t c = 0; c < columns; c++) {
        const int64_t magnitude = absolute(scale * x[c] - offset);
        largest = magnitude > largest ? magnitude : largest;
    }
    const int bits = bit_length(largest) - 15, shift = bits > params->least ? bits : params->least;
    for (int32_t c = 0; c < columns; c++) {
        const int64_t shifted = shift_right(scale * x[c] - offset, shift, STEP_ROUNDING);
        squares += shifted * shifted;
    }
    const int64_t root = isqrt(columns * squares + params->eps[shift]);
    for (int32_t c = 0; c < columns; c++) {
        const int64_t shifted = shift_right(scale * x[c] - offset, shift, STEP_ROUNDING);
        y[c] = affine(divide(columns * shifted * (INT64_C(1) << NORM_FRACTION), root, STEP_ROUNDING), c, params);
    }
}
