/* Whether an operator met what the golden model refuses. */
static int failed;
