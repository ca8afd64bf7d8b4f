/* How many bits n >= 0 takes: 0 for 0, else floor(log2 n) + 1. */
static int bit_length(int64_t n)
{
    int length = 0;
    while (length < 63 && n >> length > 0)
        length++;
    return length;
}
