/* RHE(sum x / N) of a row. */
static int64_t mean_half_even(const int32_t *x, int32_t columns)
{
    int64_t sum = 0;
    for (int32_t c = 0; c < columns; c++)
        sum += x[c];
    return divide(sum, columns, round_half_even);
}
