/* 1 / (1 + e**-x) of int16, correctly rounded: a table of 2**16 entries, those of negative inputs behind the others. */
static int32_t rounded_sigmoid(int32_t x)
{
    return SIGMOID_TABLE[x & 0xffff];
}
