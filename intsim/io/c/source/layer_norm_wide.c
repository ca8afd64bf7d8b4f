/* LayerNorm with exact centring, of codes of up to 32 bits: c = N x - sum x. */
static void layer_norm_wide(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        int64_t sum = 0;
        for (int32_t c = 0; c < columns; c++)
            sum += x[c];
        over_root_mean_square(y, x, columns, columns, sum, params);
    }
}
