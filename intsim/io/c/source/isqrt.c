/* floor(sqrt(n)) for 0 <= n < 2**62: Newton's iteration from 2**ceil(bits(n) / 2), which is never below the root, until
   it stops decreasing (Kim et al. 2021, Algorithm 4). */
static int64_t isqrt(int64_t n)
{
    int64_t root = INT64_C(1) << (bit_length(n) + 1) / 2;
    if (n == 0)
        return 0;
    for (;;) {
        const int64_t lower = (root + n / root) / 2;
        if (lower >= root)
            return root;
        root = lower;
    }
}
