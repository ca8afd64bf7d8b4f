/* The range of a sequence clipped by its token maxima M (El-Kurdi et al. 2022, Algorithm 2), in eighths and exactly:
   min(max M, q3 + 1.5 (q3 - q1)), quartiles at positions (n - 1) / 4 and 3 (n - 1) / 4, 8 t = 5 (4 q3) - 3 (4 q1). */
static void clipped_bound(int64_t *bound, const int32_t *x, int32_t rows, int32_t columns, int32_t zero_point)
{
    static int64_t sorted[MODEL_LONGEST];
    for (int32_t row = 0; row < rows; row++) {
        const int64_t largest = largest_of_row(x + row * columns, columns, zero_point);
        int32_t at = row;
        for (; at > 0 && sorted[at - 1] > largest; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = largest;
    }
    const int32_t last = rows - 1;
    const int64_t threshold = 5 * quarters(sorted, 3 * last, last) - 3 * quarters(sorted, last, last);
    *bound = 8 * sorted[last] < threshold ? 8 * sorted[last] : threshold;
}
