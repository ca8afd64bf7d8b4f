/* saturate(R((y * multiplier + bias) / 2**shift)) of channel c. */
static int32_t affine(int64_t y, int32_t c, const norm_params *params)
{
    return saturate(shift_right(y * params->multiplier[c] + params->bias[c], params->shift, ROUNDING), params->low,
                    params->high);
}
