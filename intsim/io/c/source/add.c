/* Terms of different scales: saturate(R(sum_i x_i multiplier_i / 2**shift) + zero_point), rounded once: all ratios
   share one shift. The sum of products stays inside int64. */
static void add(int32_t *y, int32_t rows, int32_t columns, int terms, const int32_t *const *x, const dyadic *ratios,
                const format *to)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t c = 0; c < columns; c++) {
            const int32_t at = row * columns + c;
            int64_t sum = 0;
            for (int i = 0; i < terms; i++)
                sum += (int64_t)x[i][at] * ratios[i].multiplier[c * ratios[i].step];
            y[at] = saturate(shift_right(sum, ratios->shift[c * ratios->step], ROUNDING) + to->zero_point[c * to->step],
                             to->low, to->high);
        }
}
