/* Toward minus infinity. */
static int64_t round_floor(int64_t quotient, int64_t twice_rest, int64_t divisor)
{
    (void)twice_rest;
    (void)divisor;
    return quotient;
}
