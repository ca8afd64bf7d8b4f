/* max |x - zero_point| over a row. */
static int64_t largest_of_row(const int32_t *x, int32_t columns, int64_t zero_point)
{
    int64_t largest = 0;
    for (int32_t c = 0; c < columns; c++) {
        const int64_t magnitude = absolute(x[c] - zero_point);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}
