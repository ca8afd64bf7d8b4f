/* padding + (number of ids up to here that are not padding), and padding for padding itself. */
static void padded_positions(int32_t *y, const int32_t *ids, int32_t tokens, int32_t padding)
{
    int32_t count = 0;
    for (int32_t i = 0; i < tokens; i++) {
        count += ids[i] != padding;
        y[i] = ids[i] == padding ? padding : padding + count;
    }
}
