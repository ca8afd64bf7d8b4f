/* Keep the keys or values of new tokens after those of the past ones. */
static void append(kept *cache, const int32_t *x, int32_t past, int32_t rows, int32_t columns)
{
    for (int32_t i = 0; i < rows * columns; i++)
        cache[(size_t)past * columns + i] = (kept)x[i];
}
