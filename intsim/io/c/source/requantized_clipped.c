/* saturate(RND((clip(acc) * multiplier + addend) / 2**shift) + zero_point): the accumulator has ACCUMULATOR_BITS bits
   and saturates first. */
static int32_t requantized_clipped(int64_t acc, int32_t multiplier, int shift, int64_t addend, int32_t zero_point,
                                   int32_t low, int32_t high)
{
    const int32_t limit = INT32_C(1) << (ACCUMULATOR_BITS - 1);
    const int64_t product = saturate(acc, -limit, limit - 1) * (int64_t)multiplier + addend;
    return saturate(shift_right(product, shift, REQUANTIZATION_ROUNDING) + zero_point, low, high);
}
