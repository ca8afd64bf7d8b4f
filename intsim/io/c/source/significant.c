/* x, |x| < 2**62, rounded to its leading 24 bits, ties to even: what float32 keeps of it. */
static int64_t significant(int64_t x)
{
    const int drop = bit_length(absolute(x)) - 24;
    return drop <= 0 ? x : shift_right(x, drop, round_half_even) * (INT64_C(1) << drop);
}
