/* saturate(RND((acc * multiplier + addend) / 2**shift) + zero_point), one exact rounding.
   |acc| <= 2**31 with |multiplier| < 2**31: the product is below 2**62. */
static int32_t requantized(int64_t acc, int32_t multiplier, int shift, int64_t addend, int32_t zero_point, int32_t low,
                           int32_t high)
{
    return saturate(shift_right(acc * multiplier + addend, shift, REQUANTIZATION_ROUNDING) + zero_point, low, high);
}
