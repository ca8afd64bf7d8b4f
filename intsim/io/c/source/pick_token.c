/* One token of a sequence. */
static void pick_token(int32_t *y, const int32_t *x, int32_t token, int32_t columns)
{
    for (int32_t c = 0; c < columns; c++)
        y[c] = x[token * columns + c];
}
