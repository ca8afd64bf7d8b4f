/* Toward zero. */
static int64_t round_toward_zero(int64_t quotient, int64_t twice_rest, int64_t divisor)
{
    (void)divisor;
    return quotient + (quotient < 0 && twice_rest > 0);
}
