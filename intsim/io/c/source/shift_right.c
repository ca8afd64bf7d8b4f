/* RND(x / 2**shift) for any x and 0 <= shift <= 62. */
static int64_t shift_right(int64_t x, int shift, rounding *round)
{
    const int64_t divisor = INT64_C(1) << shift, quotient = asr(x, shift);
    return round(quotient, 2 * (x - quotient * divisor), divisor);
}
