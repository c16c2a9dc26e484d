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


// uniform in [0, 1), a multiple of 2^-24
static inline float rng_float(uint32_t *stream) {
  return (float)(rng_bits(stream) >> 8) * 5.9604644775390625e-8f;
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


// a uniformly random order of n items in place (Fisher and Yates), n <= 65536
static inline void rng_shuffle(uint32_t *stream, int32_t *items, int32_t n) {
  for (int32_t i = n - 1; i > 0; i--) {
    int32_t j = rng_below(stream, i + 1);
    int32_t item = items[i];
    items[i] = items[j];
    items[j] = item;
  }
}
