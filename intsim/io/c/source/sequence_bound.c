/* The range of a sequence, found while running: max |x - zero_point| over all its tokens. */
static void sequence_bound(int64_t *bound, const int32_t *x, int32_t rows, int32_t columns, int32_t zero_point)
{
    *bound = largest_of_row(x, rows * columns, zero_point);
}
