/* exp(x) in codes of scale / 2**bits by shifts (Li & Gu 2023), x_0 = floor(-1 / scale):
       p = x + floor(x / 2) - floor(x / 16),   q = floor(max(p, bits x_0) / x_0),   r = max(p, bits x_0) - x_0 q
       e = floor((r / 2 - x_0) 2**(bits - q)) < 2**62 */
static int64_t shift_exp(int64_t x, int64_t x_0, int bits)
{
    const int64_t reduced = x + asr(x, 1) - asr(x, 4), p = reduced < bits * x_0 ? bits * x_0 : reduced;
    const int64_t q = divide(-p, -x_0, round_floor), twice = p - x_0 * q - 2 * x_0;
    const int left = bits - 1 - (int)q;
    return left >= 0 ? twice * (INT64_C(1) << left) : asr(twice, -left);
}
