/* LayerNorm of I-ViT, without eps:
       c = x - RHE(sum x / N),   v = sum c**2,   y = floor(c floor((2**31 - 1) / root(v)) / 2),   out = affine(y) */
static void ivit_layer_norm(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        const int64_t mean = mean_half_even(x, columns);
        int64_t squares = 0;
        for (int32_t c = 0; c < columns; c++)
            squares += (x[c] - mean) * (x[c] - mean);
        const int64_t factor = INT32_MAX / ten_step_root(squares);
        for (int32_t c = 0; c < columns; c++)
            y[c] = affine(saturate(asr((x[c] - mean) * factor, 1), INT32_MIN, INT32_MAX), c, params);
    }
}
