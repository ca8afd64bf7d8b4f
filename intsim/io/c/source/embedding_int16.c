/* The same of a table of int16. */
static void embedding_int16(int32_t *y, const int32_t *ids, const int16_t *table, int32_t rows, int32_t columns)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t c = 0; c < columns; c++)
            *y++ = table[(size_t)ids[row] * columns + c];
}
