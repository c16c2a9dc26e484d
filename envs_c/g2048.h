// g2048.h: slide and merge tiles. Twin of envs_jax/g2048.py.
//
// observation  uint8 (16,), row by row: exponents of two, 0 empty
// action       discrete   0 up, 1 down, 2 left, 3 right; a move of nothing is masked, and has no effect
// reward       merge_reward times the exponents made by merging, end_reward at the end
// ends         terminated when nothing can move, truncated after max_steps
#pragma once

#include "env.h"

enum { G2048_UP, G2048_DOWN, G2048_LEFT, G2048_RIGHT, G2048_ACTIONS };
enum { G2048_SIDE = 4, G2048_CELLS = 16, G2048_MAX_EXPONENT = 17, G2048_GOAL = 11 };

#define G2048_FOUR_PROBABILITY 0.1f
#define G2048_PER_GOAL 0.09090909f  // 1/11

typedef struct {
  float merge_reward;  // reward of a merge, times the exponent of the new tile
  float end_reward;    // when nothing can move
  int32_t max_steps;   // steps before truncation
} g2048_params;

typedef struct {
  uint32_t rng[2];
  uint8_t cells[G2048_CELLS];  // exponents of two, row by row; 0 empty
  int32_t points;              // sum of the tiles made by merging
  int32_t steps;               // since the episode began
} g2048_state;


// the first cell of a line in the direction of a move, and the step to the next one
static inline int32_t g2048_line(int32_t action, int32_t line, int32_t *step) {
  *step = action == G2048_UP ? 4 : action == G2048_DOWN ? -4 : action == G2048_LEFT ? 1 : -1;
  return action == G2048_UP ? line : action == G2048_DOWN ? 12 + line : action == G2048_LEFT ? 4 * line : 4 * line + 3;
}


// slide a line to its first cell and merge; adds to the points and to the exponents made
static inline void g2048_slide(uint8_t *x, int32_t *points, int32_t *made) {
  // tiles to the front
  uint8_t t[G2048_SIDE + 1] = {0};
  int32_t n = 0;
  for (int32_t i = 0; i < G2048_SIDE; i++)
    if (x[i]) t[n++] = x[i];

  // equal neighbours merge, from the front; a merged tile does not merge again
  for (int32_t i = 0; i + 1 < G2048_SIDE; i++) {
    if (t[i] == 0 || t[i] != t[i + 1]) continue;
    t[i]++;
    *points += 1 << t[i];
    *made += t[i];
    for (int32_t j = i + 1; j < G2048_SIDE; j++) t[j] = t[j + 1];
  }
  for (int32_t i = 0; i < G2048_SIDE; i++) x[i] = t[i];
}


// a two, or sometimes a four, on a random empty cell
static inline void g2048_spawn(g2048_state *s) {
  int32_t empty = 0;
  for (int32_t i = 0; i < G2048_CELLS; i++) empty += s->cells[i] == 0;
  int32_t which = rng_below(s->rng, empty);
  uint8_t tile = rng_bernoulli(s->rng, G2048_FOUR_PROBABILITY) ? 2 : 1;
  for (int32_t i = 0, k = 0; i < G2048_CELLS; i++)
    if (s->cells[i] == 0 && k++ == which) {
      s->cells[i] = tile;
      break;
    }
}


static inline void g2048_init(const g2048_params *p, g2048_state *s) {
  (void)p;
  memset(s->cells, 0, sizeof s->cells);
  s->points = 0;
  s->steps = 0;
  g2048_spawn(s);
  g2048_spawn(s);
}


// moves that change something: a tile towards an empty cell, or equal neighbours
static inline void g2048_action_mask(const g2048_params *p, const g2048_state *s, uint8_t *mask) {
  (void)p;
  const uint8_t *x = s->cells;
  int32_t up = 0, down = 0, left = 0, right = 0, upright = 0, level = 0;
  for (int32_t i = 0; i < 12; i++) {
    up |= x[i] == 0 && x[i + 4] != 0;
    down |= x[i] != 0 && x[i + 4] == 0;
    upright |= x[i] != 0 && x[i] == x[i + 4];
  }
  for (int32_t i = 0; i < 15; i++) {
    if (i % 4 == 3) continue;
    left |= x[i] == 0 && x[i + 1] != 0;
    right |= x[i] != 0 && x[i + 1] == 0;
    level |= x[i] != 0 && x[i] == x[i + 1];
  }
  mask[G2048_UP] = (uint8_t)(up | upright);
  mask[G2048_DOWN] = (uint8_t)(down | upright);
  mask[G2048_LEFT] = (uint8_t)(left | level);
  mask[G2048_RIGHT] = (uint8_t)(right | level);
}


static inline void g2048_transition(const g2048_params *p, g2048_state *s, const int32_t *action, outcome *out) {
  uint8_t before[G2048_CELLS];
  memcpy(before, s->cells, sizeof before);
  s->steps++;

  // each line slides
  int32_t made = 0;
  for (int32_t l = 0; l < G2048_SIDE; l++) {
    int32_t step, first = g2048_line(*action, l, &step);
    uint8_t x[G2048_SIDE];
    for (int32_t i = 0; i < G2048_SIDE; i++) x[i] = s->cells[first + i * step];
    g2048_slide(x, &s->points, &made);
    for (int32_t i = 0; i < G2048_SIDE; i++) s->cells[first + i * step] = x[i];
  }

  // if something moved, add a tile; then, can anything move?
  if (memcmp(before, s->cells, sizeof before)) g2048_spawn(s);
  uint8_t mask[G2048_ACTIONS];
  g2048_action_mask(p, s, mask);
  int32_t over = !(mask[G2048_UP] | mask[G2048_DOWN] | mask[G2048_LEFT] | mask[G2048_RIGHT]);
  out->reward = p->merge_reward * (float)made + (over ? p->end_reward : 0.0f);
  out->terminated = over;
  out->truncated = s->steps >= p->max_steps;
}


static inline void g2048_observe(const g2048_params *p, const g2048_state *s, uint8_t *obs) {
  (void)p;
  memcpy(obs, s->cells, sizeof s->cells);
}


static inline float g2048_score(const g2048_params *p, const g2048_state *s) {
  (void)p;
  return (float)s->points;
}


static inline float g2048_perf(const g2048_params *p, const g2048_state *s) {
  (void)p;
  int32_t highest = 0;
  for (int32_t i = 0; i < G2048_CELLS; i++) highest = s->cells[i] > highest ? s->cells[i] : highest;
  return highest >= G2048_GOAL ? 1.0f : (float)highest * G2048_PER_GOAL;
}
