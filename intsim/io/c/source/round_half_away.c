/* To nearest, ties away from zero: -2.5 becomes -3. */
static int64_t round_half_away(int64_t quotient, int64_t twice_rest, int64_t divisor)
{
    return quotient + (quotient < 0 ? twice_rest > divisor : twice_rest >= divisor);
}
