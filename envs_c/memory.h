// memory.h: recall a cue shown at the beginning. Twin of envs_jax/memory.py.
//
// observation  float32 (1,)  the cue, -1 or 1, at the first step, then 0
// action       discrete   0 recall -1, 1 recall 1; it counts only at the last step
// reward       +1 at the last step for the right answer
// ends         terminated after `length` steps, truncated after max_steps
#pragma once

#include "env.h"

typedef struct {
  int32_t length;     // steps of an episode
  int32_t max_steps;  // steps before truncation
} memory_params;

typedef struct {
  uint32_t rng[2];
  int32_t cue;       // 0 for -1, 1 for 1
  int32_t steps;     // since the episode began
  int32_t recalled;  // 1 once the cue was recalled
} memory_state;


static inline void memory_init(const memory_params *p, memory_state *s) {
  (void)p;
  s->cue = rng_below(s->rng, 2);
  s->steps = 0;
  s->recalled = 0;
}


static inline void memory_transition(const memory_params *p, memory_state *s, const int32_t *action, outcome *out) {
  s->steps++;
  out->terminated = s->steps >= p->length;
  out->truncated = s->steps >= p->max_steps;
  s->recalled = out->terminated && *action == s->cue;
  out->reward = (float)s->recalled;
}


static inline void memory_observe(const memory_params *p, const memory_state *s, float *obs) {
  (void)p;
  obs[0] = s->steps > 0 ? 0.0f : s->cue == 1 ? 1.0f : -1.0f;
}


static inline float memory_score(const memory_params *p, const memory_state *s) {
  (void)p;
  return (float)s->recalled;
}
