/* The arithmetic of float32 on integers: the accumulator and its product with the multiplier, the 24-bit significand of
   a float32 scale, each rounded to 24 significant bits, ties to even; then RND, zero point, saturate. No addend. */
static int32_t requantized_binary32(int64_t acc, int32_t multiplier, int shift, int64_t addend, int32_t zero_point,
                                    int32_t low, int32_t high)
{
    (void)addend;
    const int64_t product = significant(significant(acc) * multiplier);
    return saturate(shift_right(product, shift, REQUANTIZATION_ROUNDING) + zero_point, low, high);
}
