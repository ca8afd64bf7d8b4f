/* max(x, zero_point). */
static void relu(int32_t *y, const int32_t *x, int32_t rows, int32_t columns, int32_t zero_point)
{
    for (int32_t i = 0; i < rows * columns; i++)
        y[i] = x[i] > zero_point ? x[i] : zero_point;
}
