/* R((x c + y s) / 2**14): |x|, |y| <= 2**15 and |c|, |s| <= 2**14, the sum is at most 2**30. */
static int32_t turned(int32_t x, int32_t c, int32_t y, int32_t s)
{
    return (int32_t)shift_right(x * c + y * s, 14, ROUNDING);
}
