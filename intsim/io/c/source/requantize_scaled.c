/* The same where inputs were quantized while running: a row's accumulators are multiplied by its bound first. */
static void requantize_scaled(int32_t *y, const int32_t *acc, const int64_t *bound, int bound_step, int32_t rows,
                              int32_t columns, const dyadic *ratio, const int64_t *addend, const format *to)
{
    for (int32_t row = 0; row < rows; row++, acc += columns, y += columns)
        for (int32_t c = 0; c < columns; c++)
            y[c] = REQUANTIZED(acc[c] * bound[row * bound_step], ratio->multiplier[c * ratio->step],
                               ratio->shift[c * ratio->step], addend == NULL ? 0 : addend[c],
                               to->zero_point[c * to->step], to->low, to->high);
}
