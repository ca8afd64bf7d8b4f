/* The next token, the token and the previous one side by side, zero_point beyond the ends: -> (rows, 3 columns). */
static void neighbours(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, int32_t zero_point)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t from = row + 1; from >= row - 1; from--)
            for (int32_t c = 0; c < columns; c++)
                *y++ = from < 0 || from >= rows ? zero_point : x[from * columns + c];
}
