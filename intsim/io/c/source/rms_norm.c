/* RMSNorm of codes of up to 32 bits: c = x. */
static void rms_norm(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const norm_params *params)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns)
        over_root_mean_square(y, x, columns, 1, 0, params);
}
