/* How a quotient becomes an integer: from its floor, twice the rest, 0 <= rest < divisor, and the divisor. */
typedef int64_t rounding(int64_t quotient, int64_t twice_rest, int64_t divisor);
