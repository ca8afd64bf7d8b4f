/* e over total in codes of 1 / 128: floor(e floor((2**31 - 1) / min(total, 2**31 - 1)) / 2**24). */
static int64_t share(int64_t e, int64_t total)
{
    return asr(e * (INT32_MAX / (total < INT32_MAX ? total : INT32_MAX)), 24);
}
