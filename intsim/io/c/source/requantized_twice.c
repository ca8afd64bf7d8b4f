/* gemmlowp's two roundings: to a multiple of 2**-(shift - 31) half up, the high half of twice the product, then RND of
   what is left to shift; zero point, saturate. */
static int32_t requantized_twice(int64_t acc, int32_t multiplier, int shift, int64_t addend, int32_t zero_point,
                                 int32_t low, int32_t high)
{
    const int first = shift < 31 ? shift : 31;
    const int64_t high_half = shift_right(acc * multiplier + addend, first, round_half_up);
    return saturate(shift_right(high_half, shift - first, REQUANTIZATION_ROUNDING) + zero_point, low, high);
}
