/* Codes in [low, high], of which zero_point[c * step] stands for 0 in channel c. */
typedef struct {
    int32_t low, high;
    const int32_t *zero_point;
    int step;
} format;
