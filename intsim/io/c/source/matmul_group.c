/* The same of one group of input channels: ``depth`` of the ``stride`` columns of x and of W. */
static void matmul_group(int32_t *acc, const int32_t *x, const int8_t *w, const int32_t *bias, int32_t rows,
                         int32_t depth, int32_t columns, int32_t stride)
{
    for (int32_t row = 0; row < rows; row++, x += stride, acc += columns)
        for (int32_t n = 0; n < columns; n++) {
            const int8_t *weights = w + (size_t)n * stride;
            int32_t sum = bias == NULL ? 0 : bias[n];
            for (int32_t k = 0; k < depth; k++)
                sum += x[k] * weights[k];
            acc[n] = sum;
        }
}
