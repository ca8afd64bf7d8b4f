/* acc = x W.T + bias in int32: (rows, depth), W (columns, depth), bias (columns) or NULL -> (rows, columns). No sum
   leaves int32, in whatever order: max |x| sum_k |W_nk| + |bias_n| < 2**31 is proved of these weights. */
static void matmul(int32_t *acc, const int32_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t depth,
                   int32_t columns)
{
    for (int32_t row = 0; row < rows; row++, x += depth, acc += columns)
        for (int32_t n = 0; n < columns; n++) {
            const int8_t *weights = w + (size_t)n * depth;
            int32_t sum = bias == NULL ? 0 : bias[n];
            for (int32_t k = 0; k < depth; k++)
                sum += x[k] * weights[k];
            acc[n] = sum;
        }
}
