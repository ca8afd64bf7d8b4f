/* x / sqrt(sum x**2) of a row, in 16 fraction bits: P(x * 2**24 / isqrt(2**16 sum x**2)), 0 where all of the row is 0.
   |x| <= 2**15 and columns <= 2**14: the radicand is at most 2**60. */
static void l2_normalize(int32_t *y, const int32_t *x, int32_t rows, int32_t columns)
{
    for (int32_t row = 0; row < rows; row++, x += columns, y += columns) {
        int64_t squares = 0;
        for (int32_t c = 0; c < columns; c++)
            squares += (int64_t)x[c] * x[c];
        const int64_t root = isqrt(squares * (1 << 16));
        for (int32_t c = 0; c < columns; c++)
            y[c] = root == 0 ? 0 : (int32_t)divide(x[c] * (INT64_C(1) << 24), root, STEP_ROUNDING);
    }
}
