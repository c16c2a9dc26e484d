// rng.h: the random stream in every state. Twin of jaxpuffer/rng.py.
//
// xoroshiro64** (Blackman and Vigna, 2018): two 32-bit words, not both zero, with
// a period of 2^64 - 1. It needs 32-bit integer operations only, so every
// processor draws the same numbers. Each function advances the stream in place.
#pragma once

#include <stdint.h>

// the next 32 random bits
static inline uint32_t rng_bits(uint32_t *stream) {
  uint32_t s0 = stream[0], s1 = stream[1];
  uint32_t product = s0 * 0x9E3779BBu;
  uint32_t bits = ((product << 5) | (product >> 27)) * 5u;
  s1 ^= s0;
  stream[0] = ((s0 << 26) | (s0 >> 6)) ^ s1 ^ (s1 << 9);
  stream[1] = (s1 << 13) | (s1 >> 19);
  return bits;
}


// random bits as a number uniform in [0, 1), a multiple of 2^-24
static inline float rng_unit(uint32_t bits) { return (float)(bits >> 8) * 5.9604644775390625e-8f; }


// uniform in [0, 1), a multiple of 2^-24
static inline float rng_float(uint32_t *stream) {
  return rng_unit(rng_bits(stream));
}


// uniform in [low, high); rounding can give high itself
static inline float rng_uniform(uint32_t *stream, float low, float high) {
  return low + rng_float(stream) * (high - low);
}


// uniform integer in [0, n), 1 <= n <= 65536. Multiply and shift: each value's
// probability has an error of less than 2^-32, which is at most n / 2^32 of the probability.
static inline int32_t rng_below(uint32_t *stream, int32_t n) {
  return (int32_t)(((uint64_t)rng_bits(stream) * (uint32_t)n) >> 32);
}


// true with the given probability, in steps of 2^-24
static inline int32_t rng_bernoulli(uint32_t *stream, float probability) {
  return rng_float(stream) < probability;
}


// pcg3d (Jarzynski and Olano, 2020, JCGT 9(3)): three words of three words
static inline void rng_hash(uint32_t *x, uint32_t *y, uint32_t *z) {
  uint32_t a = *x * 1664525u + 1013904223u, b = *y * 1664525u + 1013904223u, c = *z * 1664525u + 1013904223u;
  a += b * c;
  b += c * a;
  c += a * b;
  a ^= a >> 16;
  b ^= b >> 16;
  c ^= c >> 16;
  a += b * c;
  b += c * a;
  c += a * b;
  *x = a;
  *y = b;
  *z = c;
}


// two words of the stream, for any number of draws with rng_at
static inline void rng_key(uint32_t *stream, uint32_t *key) {
  key[0] = rng_bits(stream);
  key[1] = rng_bits(stream);
}


// draw i: 32 random bits, a function of the key and of i alone
static inline uint32_t rng_at(const uint32_t *key, int32_t i) {
  uint32_t x = key[0], y = key[1], z = (uint32_t)i;
  rng_hash(&x, &y, &z);
  return x;
}


// a stream for drawing a world: that of one of `levels` levels from first_level on, a function
// of the level's number alone; with 0 levels a new one
static inline void rng_level(uint32_t *stream, int32_t levels, int32_t first_level, uint32_t *world) {
  uint32_t x = rng_bits(stream), y = rng_bits(stream), z = 0x6C65766Cu;
  if (levels > 0) {
    x = (uint32_t)first_level + x % (uint32_t)levels;
    y = 0;
  }
  rng_hash(&x, &y, &z);
  world[0] = x;
  world[1] = (x | y) == 0 ? 1 : y;
}


// a uniformly random order of n items in place (Fisher and Yates), n <= 65536
static inline void rng_shuffle(uint32_t *stream, int32_t *items, int32_t n) {
  for (int32_t i = n - 1; i > 0; i--) {
    int32_t j = rng_below(stream, i + 1);
    int32_t item = items[i];
    items[i] = items[j];
    items[j] = item;
  }
}


// a random choice of `count` of n items in front, in random order: the first steps of a shuffle, n <= 65536
static inline void rng_deal(uint32_t *stream, int32_t *items, int32_t n, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    int32_t j = i + rng_below(stream, n - i);
    int32_t item = items[j];
    items[j] = items[i];
    items[i] = item;
  }
}
