/* RND(dividend / divisor) for 1 <= divisor <= 2**62. C's / truncates: the floor is one less if the rest is negative. */
static int64_t divide(int64_t dividend, int64_t divisor, rounding *round)
{
    const int64_t quotient = dividend / divisor - (dividend % divisor < 0);
    return round(quotient, 2 * (dividend - quotient * divisor), divisor);
}
