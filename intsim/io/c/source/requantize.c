/* Accumulators to codes, each by REQUANTIZED, the profile's rule: (rows, columns); addend is by column, or NULL. */
static void requantize(int32_t *y, const int32_t *acc, int32_t rows, int32_t columns, const dyadic *ratio,
                       const int64_t *addend, const format *to)
{
    for (int32_t row = 0; row < rows; row++, acc += columns, y += columns)
        for (int32_t c = 0; c < columns; c++)
            y[c] = REQUANTIZED(acc[c], ratio->multiplier[c * ratio->step], ratio->shift[c * ratio->step],
                               addend == NULL ? 0 : addend[c], to->zero_point[c * to->step], to->low, to->high);
}
