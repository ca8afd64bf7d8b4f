/* The square root of I-ViT: ten steps k <- floor((k + floor(n / k)) / 2) from 2**16, which need not reach it. */
static int64_t ten_step_root(int64_t n)
{
    int64_t k = INT64_C(1) << 16;
    for (int step = 0; step < 10; step++)
        k = (k + n / k) / 2;
    return k;
}
