// hex.h: Hex for two sides that move in turns. Twin of envs_jax/hex.py.
//
// observation  int8 (size, size), tiles: 0 empty, 1 a stone of the side that moves, 2 the other's. The side that moves
//              connects top and bottom: for side 1, which connects left and right, the board is mirrored on its
//              diagonal
// action       discrete   size * row + column of what is seen: a stone there; a taken cell is masked, and loses if
//              played
// reward       1 if side 0, which begins, wins, -1 if side 1 does
// ends         terminated when a side connects its edges, truncated after max_steps
#pragma once

#include "env.h"

// A set of cells is a set of bits: cell (row, column) is bit (size + 1) * row + column. The last bit of each row
// stays empty, so that no row continues in the next. A set fills as many words as the size needs, up to HEX_WORDS
enum { HEX_WORDS = 12, HEX_WORD = 32, HEX_MAX_SIZE = 19, HEX_USUAL_SIZE = 7 };
enum { HEX_EMPTY, HEX_OWN, HEX_THEIRS };

// inlined, so that loops over the words of a set are unrolled if the compiler knows the size
#define HEX_INLINE static inline __attribute__((always_inline))

typedef struct {
  int32_t size;       // cells along a side
  int32_t swap;       // side 1 may take over the first stone in its first move
  int32_t max_steps;  // moves before truncation
} hex_params;

typedef struct {
  uint32_t rng[2];
  uint32_t own[HEX_WORDS];     // stones of the side that moves next, as it sees the board
  uint32_t theirs[HEX_WORDS];  // those of the other side, as that one sees it
  int32_t outcome;             // of side 0: 1 won, -1 lost, 0 not decided
  int32_t steps;               // since the episode began
} hex_state;


static inline int32_t hex_to_play(const hex_state *s) { return s->steps & 1; }


HEX_INLINE int32_t hex_words(int32_t size) { return (size * (size + 1) + HEX_WORD - 1) / HEX_WORD; }


// the cells of a row, from bit 0 on
HEX_INLINE uint32_t hex_row(int32_t size, const uint32_t *x, int32_t row) {
  int32_t bit = row * (size + 1), w = bit / HEX_WORD;
  uint64_t next = w + 1 < hex_words(size) ? x[w + 1] : 0;
  return (uint32_t)((x[w] | next << HEX_WORD) >> (bit % HEX_WORD)) & ((1u << size) - 1);
}


// whether a cell is in a set
HEX_INLINE uint32_t hex_has(int32_t size, const uint32_t *x, int32_t row, int32_t column) {
  int32_t bit = row * (size + 1) + column;
  return x[bit / HEX_WORD] >> (bit % HEX_WORD) & 1;
}


// a word of the set moved up by some bits, and down
HEX_INLINE uint32_t hex_up(const uint32_t *x, int32_t w, int32_t by) {
  return x[w] << by | (w > 0 ? x[w - 1] >> (HEX_WORD - by) : 0);
}


HEX_INLINE uint32_t hex_down(int32_t size, const uint32_t *x, int32_t w, int32_t by) {
  return x[w] >> by | (w + 1 < hex_words(size) ? x[w + 1] << (HEX_WORD - by) : 0);
}


// add to a set the cells of `within` beside it; returns whether it has grown
HEX_INLINE uint32_t hex_grow(int32_t size, uint32_t *x, const uint32_t *within) {
  uint32_t right[HEX_WORDS], left[HEX_WORDS], upper[HEX_WORDS], lower[HEX_WORDS], grown = 0;
  for (int32_t w = 0; w < hex_words(size); w++) {
    right[w] = hex_up(x, w, 1);
    left[w] = hex_down(size, x, w, 1);
    upper[w] = x[w] | right[w];
    lower[w] = x[w] | left[w];
  }
  // of the row above a cell touches the one above it and the next one to the right, of the row below the one below it
  // and the next one to the left
  for (int32_t w = 0; w < hex_words(size); w++) {
    uint32_t beside = right[w] | left[w] | hex_down(size, upper, w, size + 1) | hex_up(lower, w, size + 1);
    uint32_t more = beside & within[w] & ~x[w];
    x[w] |= more;
    grown |= more;
  }
  return grown;
}


// whether a stone's chain reaches from the top to the bottom
HEX_INLINE int32_t hex_connects(int32_t size, int32_t row, int32_t column, const uint32_t *within) {
  uint32_t chain[HEX_WORDS] = {0};
  int32_t bit = row * (size + 1) + column;
  chain[bit / HEX_WORD] = 1u << (bit % HEX_WORD);
  while (hex_grow(size, chain, within)) continue;
  return hex_row(size, chain, 0) && hex_row(size, chain, size - 1);
}


static inline void hex_init(const hex_params *p, hex_state *s) {
  (void)p;
  memset(s->own, 0, sizeof s->own);
  memset(s->theirs, 0, sizeof s->theirs);
  s->outcome = 0;
  s->steps = 0;
}


HEX_INLINE void hex_see(int32_t size, const hex_state *s, int8_t *obs) {
  uint32_t theirs[HEX_MAX_SIZE];
  for (int32_t column = 0; column < size; column++) theirs[column] = hex_row(size, s->theirs, column);
  for (int32_t row = 0; row < size; row++) {
    uint32_t own = hex_row(size, s->own, row);
    for (int32_t column = 0; column < size; column++)
      *obs++ = (int8_t)(HEX_OWN * (own >> column & 1) + HEX_THEIRS * (theirs[column] >> row & 1));
  }
}


static inline void hex_observe(const hex_params *p, const hex_state *s, int8_t *obs) {
  // a size that the compiler knows is faster
  if (p->size == HEX_USUAL_SIZE)
    hex_see(HEX_USUAL_SIZE, s, obs);
  else
    hex_see(p->size, s, obs);
}


static inline void hex_action_mask(const hex_params *p, const hex_state *s, uint8_t *mask) {
  // the first stone may be taken over
  int32_t swap = p->swap && s->steps == 1;
  int8_t seen[HEX_MAX_SIZE * HEX_MAX_SIZE];
  hex_observe(p, s, seen);
  for (int32_t k = 0; k < p->size * p->size; k++) mask[k] = swap || seen[k] == HEX_EMPTY;
}


// a move; the transition below makes two versions of it
HEX_INLINE void hex_move(const hex_params *p, int32_t size, hex_state *s, int32_t action, outcome *out) {
  int32_t row = action / size, column = action % size, bit = row * (size + 1) + column;
  int32_t on_theirs = (int32_t)hex_has(size, s->theirs, column, row);
  int32_t swaps = p->swap && s->steps == 1 && on_theirs;
  int32_t taken = !swaps && (on_theirs || hex_has(size, s->own, row, column));

  // a stone; or the first one changes sides, and is mirrored
  if (!taken && !swaps) s->own[bit / HEX_WORD] |= 1u << (bit % HEX_WORD);
  for (int32_t w = 0; w < hex_words(size) && swaps; w++) {
    s->own[w] = s->theirs[w];
    s->theirs[w] = 0;
  }

  // a taken cell loses, a chain from edge to edge wins; then it is the other side's turn
  int32_t gain = taken ? -1 : hex_connects(size, row, column, s->own);
  s->outcome = hex_to_play(s) == 0 ? gain : -gain;
  for (int32_t w = 0; w < hex_words(size); w++) {
    uint32_t word = s->own[w];
    s->own[w] = s->theirs[w];
    s->theirs[w] = word;
  }
  s->steps++;
  out->reward = (float)s->outcome;
  out->terminated = s->outcome != 0;
  out->truncated = s->steps >= p->max_steps;
}


static inline void hex_transition(const hex_params *p, hex_state *s, const int32_t *action, outcome *out) {
  if (p->size == HEX_USUAL_SIZE)
    hex_move(p, HEX_USUAL_SIZE, s, *action, out);
  else
    hex_move(p, p->size, s, *action, out);
}


static inline float hex_score(const hex_params *p, const hex_state *s) {
  (void)p;
  return (float)s->outcome;
}


static inline float hex_perf(const hex_params *p, const hex_state *s) {
  (void)p;
  return 0.5f + 0.5f * (float)s->outcome;
}
