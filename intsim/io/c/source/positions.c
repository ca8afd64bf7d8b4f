/* first, first + 1, ... */
static void positions(int32_t *y, int32_t tokens, int32_t first)
{
    for (int32_t i = 0; i < tokens; i++)
        y[i] = first + i;
}
