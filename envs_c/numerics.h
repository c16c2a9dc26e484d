// numerics.h: elementary functions with the same bits everywhere. Twin of
// jaxpuffer/numerics.py, which states the ranges and the accuracy.
//
// Plain float32 additions, multiplications, divisions and one square root, in a
// fixed order. Compile with -ffp-contract=off, so that no multiplication is fused
// into an addition, and with -fno-math-errno, so that the square root is one
// instruction and needs no libm. No argument is undefined behaviour; within the
// ranges the results do not depend on denormals.
#pragma once

#include <stdint.h>
#include <string.h>

#define NUM_SMALLEST_NORMAL 1.17549435e-38f
#define NUM_INFINITY num_from_bits(0x7F800000u)
#define NUM_NAN num_from_bits(0x7FC00000u)

// sin and cos: the largest angle
#define NUM_ANGLE_MAX 10000.0f
#define NUM_ANGLE_SMALL 0.75f  // up to this angle there is no quarter turn to subtract
#define NUM_TWO_OVER_PI 0.636619747f

// pi / 2 in five parts. The products of the first four with a count of quarter turns below 2^13
// are exact, so the subtractions lose nothing next to a multiple of pi / 2.
#define NUM_HALF_PI_1 1.5703125f
#define NUM_HALF_PI_2 4.83751297e-4f
#define NUM_HALF_PI_3 7.54953362e-8f
#define NUM_HALF_PI_4 2.55795385e-12f
#define NUM_HALF_PI_5 5.39030295e-15f

// exp: outside of this the result is not a normal number
#define NUM_EXP_MIN -87.3365402f
#define NUM_EXP_MAX 88.7228317f
#define NUM_LOG2_E 1.44269502f

// ln 2 in two parts; the product of the first with an exponent is exact
#define NUM_LN2_HIGH 0.693145752f
#define NUM_LN2_LOW 1.42860677e-6f

// tanh: below this a polynomial, above it the exponential
#define NUM_TANH_SMALL 0.625f

// atan2: angles as the nearest float and its error
#define NUM_PI_HIGH 3.14159274f
#define NUM_PI_LOW -8.74227766e-8f
#define NUM_HALF_PI_HIGH 1.57079637f
#define NUM_HALF_PI_LOW -4.37113883e-8f

// unit: squared length below which a vector counts as zero; 2^60 for vectors of components below 1
#define NUM_UNIT_MIN_SQUARED 1e-30f
#define NUM_UNIT_SCALE 1152921504606846976.0f


static inline uint32_t num_to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}


static inline float num_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}


// jnp.abs
static inline float num_abs(float x) {
  return __builtin_fabsf(x);
}


// jnp.sqrt, x >= 0
static inline float num_sqrt(float x) {
  return __builtin_sqrtf(x);
}


// jnp.floor, |x| < 2^31
static inline float num_floor(float x) {
  float whole = (float)(int32_t)x;
  return whole > x ? whole - 1.0f : whole;
}


// jnp.clip
static inline float num_clip(float x, float low, float high) {
  float above = x < low ? low : x;
  return above > high ? high : above;
}


// the first 12 of 24 binary digits: their square is exact, and so is x minus them
static inline float num_upper_half(float x) {
  return num_from_bits(num_to_bits(x) & 0xFFFFF000u);
}


// the nearest integer, halves away from zero, |x| < 2^22
static inline int32_t num_nearest(float x) {
  return (int32_t)(x + (x < 0.0f ? -0.5f : 0.5f));
}


// x = quarter * pi / 2 + *r with |*r| <= pi / 4; NaN if x is out of range
static inline int32_t num_quarter_turns(float x, float *r) {
  int32_t inside = num_abs(x) <= NUM_ANGLE_MAX;
  int32_t quarter = num_nearest((inside ? x : 0.0f) * NUM_TWO_OVER_PI);
  float k = (float)quarter;
  float rest = (x - k * NUM_HALF_PI_1) - k * NUM_HALF_PI_2;
  // exact up to here; the rounding error of the third difference goes into the fourth
  float part = k * NUM_HALF_PI_3;
  float third = rest - part;
  float taken = (rest - third) - part;
  rest = (third - (k * NUM_HALF_PI_4 - taken)) - k * NUM_HALF_PI_5;
  *r = inside ? rest : NUM_NAN;
  return quarter;
}


// sine of |r| <= pi / 4
static inline float num_sin_quarter(float r) {
  float z = r * r;
  float p = (-1.95182773e-4f * z + 8.33218917e-3f) * z + -0.166666552f;
  return r + r * (z * p);
}


// cosine of |r| <= pi / 4
static inline float num_cos_quarter(float r) {
  float z = r * r;
  float p = (2.44325602e-5f * z + -1.38873106e-3f) * z + 4.16666456e-2f;
  return 1.0f + z * (z * p + -0.5f);
}


static inline float num_sin(float x) {
  if (num_abs(x) <= NUM_ANGLE_SMALL) return num_sin_quarter(x);
  float r;
  int32_t quarter = num_quarter_turns(x, &r);
  float y = (quarter & 1) != 0 ? num_cos_quarter(r) : num_sin_quarter(r);
  return (quarter & 2) != 0 ? -y : y;
}


static inline float num_cos(float x) {
  if (num_abs(x) <= NUM_ANGLE_SMALL) return num_cos_quarter(x);
  float r;
  int32_t quarter = num_quarter_turns(x, &r);
  float y = (quarter & 1) != 0 ? num_sin_quarter(r) : num_cos_quarter(r);
  return ((quarter + 1) & 2) != 0 ? -y : y;
}


// num_sin and num_cos of one angle without a branch: compilers vectorise loops over it
static inline void num_sin_cos(float x, float *sine, float *cosine) {
  float r;
  uint32_t quarter = (uint32_t)num_quarter_turns(x, &r);
  uint32_t s = num_to_bits(num_sin_quarter(r)), c = num_to_bits(num_cos_quarter(r));
  uint32_t exchange = (s ^ c) & (0u - (quarter & 1));
  *sine = num_from_bits(s ^ exchange ^ ((quarter & 2) << 30));
  *cosine = num_from_bits(c ^ exchange ^ (((quarter + 1) & 2) << 30));
}


static inline float num_exp(float x) {
  // x = n ln 2 + r, |r| <= ln 2 / 2
  int32_t inside = x >= NUM_EXP_MIN && x <= NUM_EXP_MAX;
  int32_t n = num_nearest((inside ? x : 0.0f) * NUM_LOG2_E);
  float k = (float)n;
  float r = (x - k * NUM_LN2_HIGH) - k * NUM_LN2_LOW;
  float p = 1.38210552e-3f * r + 8.36867467e-3f;
  p = ((p * r + 4.16682623e-2f) * r + 0.166665211f) * r + 0.49999994f;
  float y = 1.0f + (r + (r * r) * p);
  // times 2^n, by adding n to the exponent
  y = num_from_bits(num_to_bits(y) + ((uint32_t)n << 23));
  y = x < NUM_EXP_MIN ? 0.0f : y;
  return x > NUM_EXP_MAX ? NUM_INFINITY : y;
}


static inline float num_log(float x) {
  // x = 2^n (1 + f), 1 + f between sqrt(1/2), whose bits are 0x3F3504F3, and twice that
  uint32_t bits = num_to_bits(x);
  int32_t n = (int32_t)((bits + (0x3F800000u - 0x3F3504F3u)) >> 23) - 127;
  float f = num_from_bits(bits - ((uint32_t)n << 23)) - 1.0f;
  float k = (float)n;
  float p = (-7.63639957e-2f * f + 0.127621993f) * f + -0.131596133f;
  p = ((p * f + 0.142015815f) * f + -0.166234091f) * f + 0.200012416f;
  p = (p * f + -0.250008196f) * f + 0.333333313f;
  float y = k * NUM_LN2_HIGH + (f + (k * NUM_LN2_LOW + (f * f) * (f * p + -0.5f)));
  // infinity and NaN are their own logarithms
  y = x < NUM_INFINITY ? y : x;
  float below = x > -NUM_SMALLEST_NORMAL ? -NUM_INFINITY : NUM_NAN;
  return x < NUM_SMALLEST_NORMAL ? below : y;
}


static inline float num_tanh(float x) {
  float a = num_abs(x);
  float z = x * x;
  float p = -5.69625339e-3f * z + 2.06308626e-2f;
  p = ((p * z + -5.37370592e-2f) * z + 0.133314088f) * z + -0.333332807f;
  float small = x + x * (z * p);
  float large = 1.0f - 2.0f / (num_exp(a + a) + 1.0f);
  large = x < 0.0f ? -large : large;
  return a < NUM_TANH_SMALL ? small : large;
}


static inline float num_atan2(float y, float x) {
  // the angle to the nearer axis
  float ax = num_abs(x), ay = num_abs(y);
  int32_t steep = ay > ax, left = x < 0.0f;
  float big = steep ? ay : ax;
  float a = (steep ? ax : ay) / (big < NUM_SMALLEST_NORMAL ? NUM_INFINITY : big);
  float z = a * a;
  float p = (2.91972281e-3f * z + -1.6364133e-2f) * z + 4.32058573e-2f;
  p = ((p * z + -7.55172372e-2f) * z + 0.106657855f) * z + -0.142110035f;
  p = (p * z + 0.199937671f) * z + -0.333331525f;
  float angle = a + a * (z * p);
  // counted from that axis, towards it or away from it
  float high = steep ? NUM_HALF_PI_HIGH : left ? NUM_PI_HIGH : 0.0f;
  float low = steep ? NUM_HALF_PI_LOW : left ? NUM_PI_LOW : 0.0f;
  angle = high + ((steep != left ? -angle : angle) + low);
  return y < 0.0f ? -angle : angle;
}


static inline void num_unit(float x, float y, float *ux, float *uy) {
  int32_t zero = x * x + y * y < NUM_UNIT_MIN_SQUARED;
  // far from the denormals, so that the rounding errors of the squares are not denormals
  float scale = num_abs(x) < 1.0f && num_abs(y) < 1.0f ? NUM_UNIT_SCALE : 1.0f;
  x = x * scale;
  y = y * scale;
  // the squares of the upper halves are exact; the errors of them and of their sum are added last
  float upper_x = num_upper_half(x), upper_y = num_upper_half(y);
  float square_x = upper_x * upper_x, square_y = upper_y * upper_y;
  int32_t steep = square_y > square_x;
  float big = steep ? square_y : square_x, small = steep ? square_x : square_y;
  float squared = big + small;
  float lacking = (small - (squared - big)) + ((x + upper_x) * (x - upper_x) + (y + upper_y) * (y - upper_y));
  squared = squared < NUM_INFINITY ? squared + lacking : squared;
  float length = num_sqrt(zero ? 1.0f : squared);
  *ux = zero ? 0.0f : x / length;
  *uy = zero ? 0.0f : y / length;
}
