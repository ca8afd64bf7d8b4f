/* The ratio multiplier[c * step] / 2**shift[c * step] of channel c: step is 1, or 0 where one is for all channels. */
typedef struct {
    const int32_t *multiplier;
    const uint8_t *shift;
    int step;
} dyadic;
