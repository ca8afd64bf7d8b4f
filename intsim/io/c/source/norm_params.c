/* The affine part of a norm, out = saturate(R((y * multiplier + bias) / 2**shift)), the zero point inside the bias, and
   its eps: one, or where rows are shifted right by k >= least, that of each k. */
typedef struct {
    const int32_t *multiplier;
    int shift;
    const int64_t *bias, *eps;
    int least;
    int32_t low, high;
} norm_params;
