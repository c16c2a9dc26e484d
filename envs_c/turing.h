// turing.h: a head on a tape copies, reverses, adds or sorts what it reads. Twin of envs_jax/turing.py.
//
// observation  uint8 (4,)  the cell under the head: a symbol, or base for a gap, base + 1 for the left end, base + 2
//              for the right end; how the head moved; 1 if a symbol was written; the task
// action       two choices   0 stay, 1 left, 2 right; 0 nothing, 1 + k writes symbol k, before the head moves
// reward       +1 for a correct symbol, wrong_reward for a wrong one
// ends         terminated after a wrong symbol and when the answer is complete, truncated after max_steps
#pragma once

#include "env.h"

enum { TURING_COPY, TURING_REVERSE, TURING_ADD, TURING_SORT, TURING_TASKS };
enum { TURING_STAY, TURING_LEFT, TURING_RIGHT };
enum { TURING_MAX_LENGTH = 128 };             // of the parameter max_length
enum { TURING_SPARE_PASSES = 2 };             // passes over the tape, beside one for each symbol, before truncation

typedef struct {
  int32_t task;         // copy, reverse, add, sort, or drawn for each episode
  int32_t base;         // number of different symbols
  int32_t length;       // symbols of the word, or digits of each of the two numbers
  int32_t vary_length;  // 1: each episode's length is drawn from 1 to length; 0: all have it
  int32_t max_length;   // room on the tape
  float wrong_reward;
  int32_t max_steps;    // steps before truncation; 0: base + 2 passes over the tape
} turing_params;

typedef struct {
  uint32_t rng[2];
  int8_t symbols[2 * TURING_MAX_LENGTH];  // on the tape, from the left
  int32_t task;
  int32_t length;                         // symbols of the word, or digits of each number
  int32_t head;                           // the cell it stands on, from the left end
  int32_t written;                        // symbols of the answer
  int32_t carry;                          // into the next digit of a sum
  int32_t moved;                          // what the head did in the last step: 0 stay, 1 left, 2 right
  int32_t wrote;                          // 1 if a symbol was written in the last step
  int32_t steps;                          // since the episode began
} turing_state;


// symbols between two gaps
static inline int32_t turing_group(const turing_state *s) {
  return s->task == TURING_ADD ? 2 : 1;
}


static inline int32_t turing_num_cells(const turing_state *s) {
  return s->length * (turing_group(s) + 1) + 1;
}


// symbols of the answer: a sum has one more
static inline int32_t turing_num_wanted(const turing_state *s) {
  return s->length + (s->task == TURING_ADD);
}


static inline int32_t turing_is_gap(const turing_state *s) {
  return s->head % (turing_group(s) + 1) == 0;
}


// symbol i of the tape, 0 beyond its ends
static inline int32_t turing_symbol(const turing_params *p, const turing_state *s, int32_t i) {
  return i >= 0 && i < 2 * p->max_length ? s->symbols[i] : 0;
}


// the next symbol of the answer, and the carry after it
static inline int32_t turing_wanted(const turing_params *p, const turing_state *s, int32_t *carry) {
  *carry = 0;
  if (s->task == TURING_COPY) return turing_symbol(p, s, s->written);
  if (s->task == TURING_REVERSE) return turing_symbol(p, s, s->length - 1 - s->written);

  // two digits and the carry
  if (s->task == TURING_ADD) {
    int32_t sum = turing_symbol(p, s, 2 * s->written) + turing_symbol(p, s, 2 * s->written + 1) + s->carry;
    *carry = sum >= p->base;
    return sum - *carry * p->base;
  }

  // the symbols that are too small: there are not more of them, and of smaller ones, than were written
  int32_t symbol = 0;
  for (int32_t value = 0; value < p->base - 1; value++) {
    int32_t count = 0;
    for (int32_t i = 0; i < s->length; i++) count += s->symbols[i] <= value;
    symbol += count <= s->written;
  }
  return symbol;
}


static inline void turing_init(const turing_params *p, turing_state *s) {
  // which task, and of which length; a length within a jitted program is not checked, so it is held to the tape
  int32_t drawn = rng_below(s->rng, TURING_TASKS);
  s->task = p->task == TURING_TASKS ? drawn : p->task;
  int32_t length = p->length < 1 ? 1 : p->length > p->max_length ? p->max_length : p->length;
  int32_t shorter = 1 + rng_below(s->rng, length);
  s->length = p->vary_length == 1 ? shorter : length;

  // the tape
  uint32_t key[2];
  rng_key(s->rng, key);
  int32_t used = s->length * turing_group(s);
  for (int32_t i = 0; i < used; i++) s->symbols[i] = (int8_t)(rng_at(key, i) % (uint32_t)p->base);
  memset(s->symbols + used, 0, sizeof s->symbols - (size_t)used);

  // the head at its left end
  s->head = s->written = s->carry = s->moved = s->wrote = s->steps = 0;
}


static inline void turing_transition(const turing_params *p, turing_state *s, const int32_t *action, outcome *out) {
  int32_t move = action[0], symbol = action[1] - 1;

  // write; over a symbol of the tape nothing happens
  int32_t correct = 0, wrong = 0;
  if (symbol >= 0 && turing_is_gap(s)) {
    int32_t carry;
    correct = symbol == turing_wanted(p, s, &carry);
    wrong = !correct;
    if (correct) {
      s->written++;
      s->carry = carry;
    }
  }
  s->wrote = correct;

  // move, not beyond the ends
  int32_t last = turing_num_cells(s) - 1;
  int32_t head = s->head + (move == TURING_RIGHT) - (move == TURING_LEFT);
  head = head < 0 ? 0 : head > last ? last : head;
  s->moved = head == s->head ? TURING_STAY : move;
  s->head = head;
  s->steps++;

  int32_t limit = p->max_steps > 0 ? p->max_steps : (p->base + TURING_SPARE_PASSES) * turing_num_cells(s);
  out->reward = correct ? 1.0f : wrong ? p->wrong_reward : 0.0f;
  out->terminated = wrong || s->written == turing_num_wanted(s);
  out->truncated = s->steps >= limit;
}


static inline void turing_observe(const turing_params *p, const turing_state *s, uint8_t *obs) {
  // the symbol under the head, or the kind of gap
  int32_t group = turing_group(s), cell = p->base;
  if (!turing_is_gap(s)) {
    cell = turing_symbol(p, s, s->head / (group + 1) * group + s->head % (group + 1) - 1);
  } else if (s->head == 0) {
    cell = p->base + 1;
  } else if (s->head == turing_num_cells(s) - 1) {
    cell = p->base + 2;
  }
  obs[0] = (uint8_t)cell;
  obs[1] = (uint8_t)s->moved;
  obs[2] = (uint8_t)s->wrote;
  obs[3] = (uint8_t)s->task;
}


static inline float turing_score(const turing_params *p, const turing_state *s) {
  (void)p;
  return (float)s->written;
}


static inline float turing_perf(const turing_params *p, const turing_state *s) {
  (void)p;
  return (float)s->written * (1.0f / (float)turing_num_wanted(s));
}
