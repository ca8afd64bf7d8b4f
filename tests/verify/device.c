// SPDX-License-Identifier: Apache-2.0
// A stand-in for a device under test: requantize, isqrt and exp in C99, written from numerics.md alone.
//
//   intsim vectors gen OP --operands-only | device | intsim vectors verify OP
//
// It reads operand lines, writes each with its result after it, and takes operator and profile constants from the header,
// which it passes on. Built with one of the BUG_ macros it is wrong in a way that real devices have been.

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum rounding { FLOOR, HALF_UP, HALF_EVEN };

static enum rounding rounding = HALF_UP, step_rounding = HALF_UP;
static int64_t q_ln2, q_b, q_c, guard_bits, output_shift;

static enum rounding named(const char *name) {
  return !strcmp(name, "half-up") ? HALF_UP : !strcmp(name, "half-even") ? HALF_EVEN : FLOOR;
}

// RND(p / 2**t), 0 <= t <= 62, |p| <= 2**62: the half added is at most 2**61.
static int64_t shifted(int64_t p, int t, enum rounding how) {
#ifdef BUG_SHIFT  // one too few
  t = t > 0 ? t - 1 : 0;
#endif
#ifdef BUG_TIES
  how = how == HALF_UP ? HALF_EVEN : HALF_UP;
#endif
  if (t == 0) return p;
#ifdef BUG_TRUNCATE  // C's division instead of the arithmetic shift
  return (p + (how == FLOOR ? 0 : INT64_C(1) << (t - 1))) / (INT64_C(1) << t);
#endif
  if (how == HALF_UP) return (p + (INT64_C(1) << (t - 1))) >> t;
  const int64_t quotient = p >> t, twice_rest = (p - quotient * (INT64_C(1) << t)) * 2;
  return quotient + (how == HALF_EVEN && twice_rest + (quotient & 1) > (INT64_C(1) << t));
}

static int64_t int8_of(int64_t y) {
#ifdef BUG_WRAP
  return (int8_t)(y & 0xff);
#else
  return y < -128 ? -128 : y > 127 ? 127 : y;
#endif
}

static int64_t requantize(int64_t acc, int64_t multiplier, int64_t shift, int64_t zero_point) {
  return int8_of(shifted(acc * multiplier, (int)shift, rounding) + zero_point);
}

static int64_t isqrt(int64_t n) {
  if (n == 0) return 0;
  int bits = 0;
  while (n >> bits) bits++;
  int64_t root = INT64_C(1) << (bits + 1) / 2;
#ifdef BUG_SQRT  // five updates are enough for most
  for (int update = 0; update < 5; update++) root = (root + n / root) >> 1;
  return root;
#else
  for (;;) {
    const int64_t lower = (root + n / root) >> 1;
    if (lower >= root) return root;
    root = lower;
  }
#endif
}

static int64_t exponential(int64_t x) {
  const int64_t q = x * (INT64_C(1) << guard_bits), z = -q / q_ln2, p = q + z * q_ln2;
  return shifted((p + q_b) * (p + q_b) + q_c, (int)(z + output_shift), step_rounding);
}

int main(void) {
  char line[256], operator_[32] = "", name[32], value[32];
  while (fgets(line, sizeof line, stdin)) {
    if (line[0] == '#') {
      fputs(line, stdout);
      sscanf(line, "# operator: %31s", operator_);
      if (sscanf(line, "# constant: %31s %31s", name, value) == 2) {
        int64_t number = 0;
        sscanf(value, "%" SCNd64, &number);
        if (!strcmp(name, "rounding")) rounding = named(value);
        if (!strcmp(name, "step_rounding")) step_rounding = named(value);
        if (!strcmp(name, "q_ln2")) q_ln2 = number;
        if (!strcmp(name, "q_b")) q_b = number;
        if (!strcmp(name, "q_c")) q_c = number;
        if (!strcmp(name, "guard_bits")) guard_bits = number;
        if (!strcmp(name, "output_shift")) output_shift = number;
      }
      continue;
    }
    uint64_t word[4];
    const int words = sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, &word[0], &word[1], &word[2], &word[3]);
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(operator_, "requantize") && words == 4) {
      const int64_t y = requantize((int32_t)word[0], (int32_t)word[1], (int64_t)word[2], (int8_t)word[3]);
      printf("%s %02x\n", line, (unsigned)(y & 0xff));
    } else if (!strcmp(operator_, "isqrt") && words == 1) {
      printf("%s %08" PRIx64 "\n", line, (uint64_t)isqrt((int64_t)word[0]));
    } else if (!strcmp(operator_, "exp") && words == 1) {
      printf("%s %08" PRIx32 "\n", line, (uint32_t)exponential((int16_t)word[0]));
    } else {
      fprintf(stderr, "device: cannot do %s of '%s'\n", operator_, line);
      return 1;
    }
  }
  return 0;
}
