/* |x|, x > -2**63. */
static int64_t absolute(int64_t x)
{
    return x < 0 ? -x : x;
}
