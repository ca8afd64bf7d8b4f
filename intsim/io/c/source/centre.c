/* x - zero_point: (rows, columns), zero_point[c * step] of column c. */
static void centre(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const int32_t *zero_point, int step)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns)
        for (int32_t c = 0; c < columns; c++)
            y[c] = x[c] - zero_point[c * step];
}
