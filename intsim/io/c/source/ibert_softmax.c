/* Softmax of the scores first ... columns - 1 as I-BERT's released code has it, in codes of 1 / 256, on 16-bit codes x:
       (L, z) = exp(x - max x),   e = saturate16(RHE(L multiplier / 2**(shift + z)))
       probs = min(floor(e floor(2**32 / sum e) / 2**24), 255) */
static void ibert_softmax(int32_t *probs, const int32_t *acc, int32_t first, int32_t columns, const dyadic *ratio)
{
    int32_t largest = INT32_MIN;
    int64_t sum = 0;
    for (int32_t j = first; j < columns; j++) {
        probs[j] = REQUANTIZED(acc[j], ratio->multiplier[0], ratio->shift[0], 0, 0, INT16_MIN, INT16_MAX);
        largest = probs[j] > largest ? probs[j] : largest;
    }
    for (int32_t j = first; j < columns; j++) {
        int z;
        const int64_t polynomial = ibert_exp((int64_t)probs[j] - largest, &z);
        const int shift = IBERT_EXP_SHIFT + z < 62 ? IBERT_EXP_SHIFT + z : 62;
        probs[j] = saturate(shift_right(polynomial * IBERT_EXP_MULTIPLIER, shift, round_half_even), INT16_MIN,
                            INT16_MAX);
        sum += probs[j];
    }
    const int64_t factor = (INT64_C(1) << 32) / (sum > 0 ? sum : 1);
    for (int32_t j = first; j < columns; j++)
        probs[j] = saturate(asr(probs[j] * factor, 24), 0, 255);
}
