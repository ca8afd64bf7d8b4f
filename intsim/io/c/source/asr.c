/* floor(x / 2**shift), 0 <= shift <= 62: C leaves open what >> does to a negative number. */
static int64_t asr(int64_t x, int shift)
{
    return x >= 0 ? x >> shift : ~(~x >> shift);
}
