/* e**x for -2**15 <= x <= 0, correctly rounded: a table of 2**15 + 1 entries. */
static int32_t rounded_exp(int32_t x)
{
    return EXP_TABLE[-x];
}
