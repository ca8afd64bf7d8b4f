// SPDX-License-Identifier: Apache-2.0
// A stand-in for a device under test: requantize, isqrt and exp in C99, written from the published rules alone.
//
//   intsim vectors gen OP --operands-only | device [BUG] | intsim vectors verify OP
//
// It reads operand lines, writes each with its result after it, and takes operator and profile constants from the header,
// which it passes on. Given the name of a bug it is wrong in a way that real devices have been.

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum rounding { FLOOR, HALF_UP, HALF_AWAY, HALF_EVEN };

static const char *bug = "";
static enum rounding rounding, step_rounding;
static int64_t q_ln2, q_b, q_c, guard_bits, output_shift;

static int has(const char *name) { return !strcmp(bug, name); }

static enum rounding named(const char *name) {
  return !strcmp(name, "half-up") ? HALF_UP : !strcmp(name, "half-even") ? HALF_EVEN : FLOOR;
}

// RND(p / 2**t), 0 <= t <= 62, |p| <= 2**62: the half added is at most 2**61.
static int64_t shifted(int64_t p, int64_t t, enum rounding how) {
  const int64_t one = INT64_C(1) << t, half = one / 2, quotient = p >> t, twice_rest = (p - quotient * one) * 2;
  if (how == FLOOR) return quotient;
  if (how == HALF_UP) return (p + half) >> t;
  if (how == HALF_AWAY) return (p < 0 ? p - half : p + half) / one;
  return quotient + (twice_rest + (quotient & 1) > one);
}

static int64_t requantize(int64_t acc, int64_t m, int64_t t, int64_t zero_point) {
  if (has("narrow")) m = ((m + 64) >> 7) * 128;
  int64_t y = shifted(acc * m, t, has("away") ? HALF_AWAY : rounding);
  if (has("shift")) y = shifted(acc * m, t > 0 ? t - 1 : 0, rounding);
  if (has("truncate")) y = (acc * m + (INT64_C(1) << t) / 2) / (INT64_C(1) << t);
  if (has("twice")) {
    const int64_t first = t < 31 ? t : 31;
    y = shifted(shifted(acc * m, first, HALF_UP), t - first, HALF_AWAY);
  }
  y += zero_point;
  if (has("wrap")) return (int8_t)(y & 0xff);
  return y < -128 ? -128 : y > 127 ? 127 : y;
}

static int64_t isqrt(int64_t n) {
  if (n == 0) return 0;
  if (has("float")) return (int64_t)sqrtf((float)n);
  int bits = 0;
  while (n >> bits) bits++;
  int64_t root = INT64_C(1) << (bits + 1) / 2;
  for (int update = 0; !has("newton") || update < 5; update++) {
    const int64_t lower = (root + n / root) >> 1;
    if (lower >= root && !has("newton")) break;
    root = lower;
  }
  return root + (has("ceiling") && root * root < n);
}

static int64_t exponential(int64_t x) {
  const int64_t q = x * (INT64_C(1) << guard_bits);
  const int64_t z = has("quotient") ? (-q + q_ln2 - 1) / q_ln2 : -q / q_ln2, p = q + z * q_ln2;
  const int64_t sum = p + q_b + has("constant"), t = z + output_shift + has("shift");
  return shifted(sum * sum + q_c, t, step_rounding);
}

int main(int argc, char **argv) {
  char line[256], operator_[32] = "", name[32], value[32];
  if (argc > 1) bug = argv[1];
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
