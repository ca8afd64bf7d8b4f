/* x clipped into [low, high]: 300 becomes 127 in int8, never 44. */
static int32_t saturate(int64_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : (int32_t)x;
}
