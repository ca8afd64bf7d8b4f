/* The range of each token, found while running (Yao et al. 2022): max |x - zero_point| over its row. */
static void token_bound(int64_t *bound, const int32_t *x, int32_t rows, int32_t columns, int32_t zero_point)
{
    for (int32_t row = 0; row < rows; row++)
        bound[row] = largest_of_row(x + row * columns, columns, zero_point);
}
