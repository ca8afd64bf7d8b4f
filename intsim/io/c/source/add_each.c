/* Terms of different scales: saturate(sum_i R(x_i multiplier_i / 2**shift_i) + zero_point), every term rounded to int32
   by itself. */
static void add_each(int32_t *y, int32_t rows, int32_t columns, int terms, const int32_t *const *x,
                     const dyadic *ratios, const format *to)
{
    for (int32_t row = 0; row < rows; row++)
        for (int32_t c = 0; c < columns; c++) {
            const int32_t at = row * columns + c;
            int64_t sum = 0;
            for (int i = 0; i < terms; i++) {
                const int64_t product = (int64_t)x[i][at] * ratios[i].multiplier[c * ratios[i].step];
                sum += saturate(shift_right(product, ratios[i].shift[c * ratios[i].step], ROUNDING), INT32_MIN,
                                INT32_MAX);
            }
            y[at] = saturate(sum + to->zero_point[c * to->step], to->low, to->high);
        }
}
