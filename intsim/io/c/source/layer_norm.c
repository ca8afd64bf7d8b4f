/* LayerNorm with exact centring, of codes of at most 16 bits. Of a row, with N = columns and f = NORM_FRACTION:
       s = sum x,   c = N x - s,   v = N sum x**2 - s**2 + eps,   y = P(c * 2**f / isqrt(v)),   out = affine(y)
   |x| <= 2**15 and N <= 2**14: v < 2**62. |y| <= 2**f sqrt(3 N) < 2**24. */
static void layer_norm(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        int64_t sum = 0, squares = 0;
        for (int32_t c = 0; c < columns; c++) {
            sum += x[c];
            squares += (int64_t)x[c] * x[c];
        }
        const int64_t root = isqrt(columns * squares - sum * sum + params->eps[0]);
        for (int32_t c = 0; c < columns; c++) {
            const int64_t centred = (int64_t)columns * x[c] - sum;
            y[c] = affine(divide(centred * (INT64_C(1) << NORM_FRACTION), root, STEP_ROUNDING), c, params);
        }
    }
}
