// SPDX-License-Identifier: Apache-2.0
// saturate(RHU(acc * multiplier / 2**shift) + zero_point) to int8; RHU: to nearest, halves toward plus infinity.
#include <stdint.h>

#ifdef __cplusplus  // Verilator compiles this as C++
extern "C"
#endif
int intsim_requantize(int acc, int multiplier, int shift, int zero_point) {
  const int64_t product = (int64_t)acc * multiplier;                  // at most 2**62 in magnitude
  const int64_t half = shift > 0 ? INT64_C(1) << (shift - 1) : 0;     // shift 0 adds no half
  const int64_t y = ((product + half) >> shift) + zero_point;         // an arithmetic shift floors
  return (int)(y < -128 ? -128 : y > 127 ? 127 : y);
}
