/* saturate(RND((acc * multiplier + addend) / 2**shift + zero_point)): the zero point before the rounding, so that it
   decides where a tie goes. */
static int32_t requantized_before(int64_t acc, int32_t multiplier, int shift, int64_t addend, int32_t zero_point,
                                  int32_t low, int32_t high)
{
    const int64_t product = acc * multiplier + addend, divisor = INT64_C(1) << shift, floor = asr(product, shift);
    return saturate(REQUANTIZATION_ROUNDING(floor + zero_point, 2 * (product - floor * divisor), divisor), low, high);
}
