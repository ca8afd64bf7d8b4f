/* saturate(R((a - a_zero_point) (b - b_zero_point) multiplier / 2**shift) + zero_point), one rounding. */
static void multiply(int32_t *y, const int32_t *a, const int32_t *b, int32_t rows, int32_t columns,
                     const dyadic *ratio, int32_t a_zero_point, int32_t b_zero_point, const format *to)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t c = 0; c < columns; c++) {
            const int32_t at = row * columns + c;
            const int64_t product = (int64_t)(a[at] - a_zero_point) * (b[at] - b_zero_point);
            y[at] = saturate(shift_right(product * ratio->multiplier[c * ratio->step],
                                         ratio->shift[c * ratio->step], ROUNDING) + to->zero_point[c * to->step],
                             to->low, to->high);
        }
}
