/* A function of int16, correctly rounded: a table of 2**16 entries, those of negative inputs behind the others. */
static void tabulated(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const int32_t *table)
{
    for (int32_t i = 0; i < rows * columns; i++)
        y[i] = table[x[i] & 0xffff];
}
