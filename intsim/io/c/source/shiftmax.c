/* Softmax of the scores first ... columns - 1 by shifts (Li & Gu 2023), in codes of 1 / 128, on 16-bit codes x:
       e = exp(x - max x),   probs = e over sum e */
static void shiftmax(int32_t *probs, const int32_t *acc, int32_t first, int32_t columns, const dyadic *ratio)
{
    int32_t largest = INT32_MIN;
    int64_t sum = 0;
    for (int32_t j = first; j < columns; j++) {
        probs[j] = REQUANTIZED(acc[j], ratio->multiplier[0], ratio->shift[0], 0, 0, INT16_MIN, INT16_MAX);
        largest = probs[j] > largest ? probs[j] : largest;
    }
    for (int32_t j = first; j < columns; j++)
        sum += shift_exp((int64_t)probs[j] - largest, SHIFTMAX_0, SHIFTMAX_BITS);
    for (int32_t j = first; j < columns; j++)
        probs[j] = saturate(share(shift_exp((int64_t)probs[j] - largest, SHIFTMAX_0, SHIFTMAX_BITS), sum), 0, 255);
}
