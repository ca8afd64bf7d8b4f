/* Print the integers of a sequence on one line. */
static void print_values(const int32_t *values, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        printf(i == 0 ? "%ld" : " %ld", (long)values[i]);
    putchar('\n');
    fflush(stdout);
}
