/* Four times the value at position / 4 of sorted numbers 0 ... last, by linear interpolation. */
static int64_t quarters(const int64_t *sorted, int32_t position, int32_t last)
{
    const int32_t below = position / 4, rest = position % 4;
    return (4 - rest) * sorted[below] + rest * sorted[below < last ? below + 1 : last];
}
