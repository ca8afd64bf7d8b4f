/* To nearest, ties toward plus infinity: -2.5 becomes -2. */
static int64_t round_half_up(int64_t quotient, int64_t twice_rest, int64_t divisor)
{
    return quotient + (twice_rest >= divisor);
}
