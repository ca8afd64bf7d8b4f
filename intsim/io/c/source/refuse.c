/* End the program with a sentence about the line it reads. */
static void refuse(long line, const char *rule)
{
    fprintf(stderr, "line %ld must %s\n", line, rule);
    exit(3);
}
