/* To nearest, ties to the even neighbour: -2.5 becomes -2, -3.5 becomes -4. */
static int64_t round_half_even(int64_t quotient, int64_t twice_rest, int64_t divisor)
{
    return quotient + (twice_rest + (quotient & 1) > divisor);
}
