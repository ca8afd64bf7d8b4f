/* LayerNorm about a rounded mean, of codes of up to 32 bits: c = x - R(sum x / N). */
static void layer_norm_rounded_mean_wide(int32_t *y, const int32_t *x, int32_t rows, int32_t columns,
                                         const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        int64_t sum = 0;
        for (int32_t c = 0; c < columns; c++)
            sum += x[c];
        over_root_mean_square(y, x, columns, 1, divide(sum, columns, ROUNDING), params);
    }
}
