// squared.h: walk to a target on a square grid. Twin of envs_jax/squared.py.
//
// observation  uint8 (size^2,), row by row: 0 empty, 1 the agent, 2 the target
// action       discrete   0 stay, 1 down, 2 up, 3 left, 4 right
// reward       +1 on reaching the target, -1 on leaving the grid
// ends         terminated on the target and outside the grid, truncated after max_steps
#pragma once

#include "env.h"

enum { SQUARED_STAY, SQUARED_DOWN, SQUARED_UP, SQUARED_LEFT, SQUARED_RIGHT, SQUARED_ACTIONS };
enum { SQUARED_EMPTY, SQUARED_AGENT, SQUARED_TARGET, SQUARED_TILES };

typedef struct {
  int32_t size;       // cells along a side, odd
  int32_t max_steps;  // steps before truncation
} squared_params;

typedef struct {
  uint32_t rng[2];
  int32_t x;         // cells from the left, of the agent
  int32_t y;         // cells from the top
  int32_t target_x;
  int32_t target_y;
  int32_t steps;     // since the episode began
} squared_state;


static inline void squared_init(const squared_params *p, squared_state *s) {
  // the agent in the middle, the target on any other cell
  int32_t middle = (p->size * p->size - 1) / 2;
  int32_t target = rng_below(s->rng, p->size * p->size - 1);
  target += target >= middle;
  s->x = p->size / 2;
  s->y = p->size / 2;
  s->target_x = target % p->size;
  s->target_y = target / p->size;
  s->steps = 0;
}


static inline void squared_transition(const squared_params *p, squared_state *s, const int32_t *action, outcome *out) {
  s->x += (*action == SQUARED_RIGHT) - (*action == SQUARED_LEFT);
  s->y += (*action == SQUARED_DOWN) - (*action == SQUARED_UP);
  s->steps++;
  int32_t reached = s->x == s->target_x && s->y == s->target_y;
  int32_t outside = s->x < 0 || s->x >= p->size || s->y < 0 || s->y >= p->size;
  out->reward = reached ? 1.0f : outside ? -1.0f : 0.0f;
  out->terminated = reached || outside;
  out->truncated = s->steps >= p->max_steps;
}


static inline void squared_observe(const squared_params *p, const squared_state *s, uint8_t *obs) {
  memset(obs, SQUARED_EMPTY, (size_t)(p->size * p->size));
  obs[s->target_y * p->size + s->target_x] = SQUARED_TARGET;
  if (s->x >= 0 && s->x < p->size && s->y >= 0 && s->y < p->size) obs[s->y * p->size + s->x] = SQUARED_AGENT;
}


static inline float squared_score(const squared_params *p, const squared_state *s) {
  (void)p;
  return s->x == s->target_x && s->y == s->target_y ? 1.0f : 0.0f;
}
