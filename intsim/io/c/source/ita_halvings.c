/* RHU(difference / 2**shift), at most the 62 halvings that leave nothing. */
static int ita_halvings(int64_t difference)
{
    const int64_t halvings = shift_right(difference, ITA_SOFTMAX_SHIFT, round_half_up);
    return halvings < 62 ? (int)halvings : 62;
}
