/* Channels in another order: y_c = x_order(c). */
static void permute(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const int32_t *order)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns)
        for (int32_t c = 0; c < columns; c++)
            y[c] = x[order[c]];
}
