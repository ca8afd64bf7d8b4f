/* saturate(R((x * multiplier + addend) / 2**shift) + zero_point), one exact rounding: (rows, columns); addend by
   column, or NULL. */
static void rescale(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, const dyadic *ratio,
                    const int64_t *addend, const format *to)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns)
        for (int32_t c = 0; c < columns; c++) {
            const int64_t product = (int64_t)x[c] * ratio->multiplier[c * ratio->step];
            const int64_t sum = product + (addend == NULL ? 0 : addend[c]);
            y[c] = saturate(shift_right(sum, ratio->shift[c * ratio->step], ROUNDING) + to->zero_point[c * to->step],
                            to->low, to->high);
        }
}
