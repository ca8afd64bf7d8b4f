/* LayerNorm as I-BERT's released code has it, without eps; a row whose variance is 0 is refused:
       c = x - RHE(sum x / N),   v = sum floor(c / 2**shift)**2,   std = isqrt(v) 2**shift
       y = floor(c floor(2**31 / std) / 2),   out = affine(y) */
static void ibert_layer_norm(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        const int64_t mean = mean_half_even(x, columns);
        int64_t squares = 0;
        for (int32_t c = 0; c < columns; c++) {
            const int64_t shifted = asr(x[c] - mean, NORM_SHIFT);
            squares += shifted * shifted;
        }
        int64_t root = isqrt(squares);
        if (root == 0)
            failed = root = 1;
        const int64_t factor = (INT64_C(1) << 31) / (root << NORM_SHIFT);
        for (int32_t c = 0; c < columns; c++)
            y[c] = affine(saturate(asr((x[c] - mean) * factor, 1), INT32_MIN, INT32_MAX), c, params);
    }
}
