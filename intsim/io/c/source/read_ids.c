/* Read the ids of the next line: how many they are, or -1 at the end of the input. */
static int32_t read_ids(int32_t *ids, long line)
{
    int32_t count = 0;
    int next = getchar();
    if (next == EOF)
        return -1;
    while (next != '\n' && next != EOF) {
        int64_t id = 0;
        if (next == ' ' || next == '\t' || next == '\r') {
            next = getchar();
            continue;
        }
        if (next < '0' || next > '9')
            refuse(line, "hold token ids, decimal numbers separated by spaces");
        for (; next >= '0' && next <= '9'; next = getchar())
            id = id < MODEL_VOCABULARY ? 10 * id + (next - '0') : id;
        if (id >= MODEL_VOCABULARY)
            refuse(line, "hold token ids below MODEL_VOCABULARY, see model.h");
        if (count == MODEL_LONGEST)
            refuse(line, "hold at most MODEL_LONGEST token ids, see model.h");
        ids[count++] = (int32_t)id;
    }
    if (count == 0)
        refuse(line, "hold at least one token id");
    return count;
}
