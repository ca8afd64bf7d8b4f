/* Softmax of the scores first ... columns - 1, in codes of 1 / SOFTMAX_ONE. With m / 2**t the ratio:
       x_j = R((acc_j - max acc) m / 2**t) saturated at -2**15,   e_j = EXP(x_j)
       probs_j = min(P(e_j * one / sum e), PROBABILITY_MAX) */
static void softmax(int32_t *probs, const int32_t *acc, int32_t first, int32_t columns, const dyadic *ratio)
{
    int64_t largest = acc[first], sum = 0;
    for (int32_t j = first; j < columns; j++)
        largest = acc[j] > largest ? acc[j] : largest;
    for (int32_t j = first; j < columns; j++) {
        const int64_t product = (acc[j] - largest) * ratio->multiplier[0];
        probs[j] = EXP(saturate(shift_right(product, ratio->shift[0], ROUNDING), INT16_MIN, INT16_MAX));
        sum += probs[j];
    }
    for (int32_t j = first; j < columns; j++)
        probs[j] = saturate(divide((int64_t)probs[j] * SOFTMAX_ONE, sum, STEP_ROUNDING), 0, PROBABILITY_MAX);
}
