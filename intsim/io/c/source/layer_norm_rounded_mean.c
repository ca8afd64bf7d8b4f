/* LayerNorm about a rounded mean, of codes of at most 16 bits. Of a row, with N = columns and f = NORM_FRACTION:
       c = x - R(sum x / N),   v = floor(sum c**2 / N) + eps,   y = P(c * 2**f / isqrt(v)),   out = affine(y) */
static void layer_norm_rounded_mean(int32_t *y, const int32_t *x, int32_t rows, int32_t columns,
                                    const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        int64_t sum = 0, squares = 0;
        for (int32_t c = 0; c < columns; c++)
            sum += x[c];
        const int64_t mean = divide(sum, columns, ROUNDING);
        for (int32_t c = 0; c < columns; c++)
            squares += (x[c] - mean) * (x[c] - mean);
        const int64_t root = isqrt(squares / columns + params->eps[0]);
        for (int32_t c = 0; c < columns; c++)
            y[c] = affine(divide((x[c] - mean) * (INT64_C(1) << NORM_FRACTION), root, STEP_ROUNDING), c, params);
    }
}
