// target.h: several hunters look for goals. Twin of envs_jax/target.py.
//
// observation  float32 (2 num_goals + 2 num_hunters + 4,) per hunter: offsets of the goals and of all hunters, heading,
//              last reward, position
// action       two choices   0 to 8 turn by -4 to 4 twelfths of a radian, 0 to 4 change the speed by -2 to 2
//              px per step
// reward       1 for each goal reached
// ends         a hunter is truncated after `patience` steps without a goal, and moved to another place. The world is
//              reset after max_steps, which truncates all
#pragma once

#include "env.h"

enum { TARGET_MAX_AGENTS = 32, TARGET_MAX_GOALS = 16, TARGET_CHOICES = 2, TARGET_STRAIGHT = 4, TARGET_STEADY = 2 };

#define TARGET_WIDTH 1080.0f               // px
#define TARGET_HEIGHT 720.0f               // px
#define TARGET_REACH_SQUARED 1024.0f       // px^2: a goal is reached within 32 px
#define TARGET_TURNING 0.083333336f        // rad per choice: 1/12
#define TARGET_MAX_SPEED 20.0f             // px per step, forwards or backwards
#define TARGET_HALF_TURN 3.14159265f       // rad
#define TARGET_TURN 6.2831853f             // rad
#define TARGET_PER_TURN 0.15915494f        // 1/rad
#define TARGET_PER_WIDTH 9.2592593e-4f     // 1/px, of observed offsets and positions
#define TARGET_GOOD_SHARE 0.02f            // of the steps: this number of goals is a perf of 1

typedef struct {
  int32_t num_hunters;
  int32_t num_goals;
  int32_t patience;   // steps without a goal before a hunter is moved to another place
  int32_t max_steps;  // steps of the world before it is reset
} target_params;

typedef struct {
  uint32_t rng[2];
  float x[TARGET_MAX_AGENTS];        // px from the left
  float y[TARGET_MAX_AGENTS];        // px from the top
  float heading[TARGET_MAX_AGENTS];  // rad, 0 to the right, positive downwards
  float speed[TARGET_MAX_AGENTS];    // px per step
  float reward[TARGET_MAX_AGENTS];   // of the last step
  int32_t idle[TARGET_MAX_AGENTS];   // steps since the last goal
  int32_t reached[TARGET_MAX_AGENTS];  // goals in the episode
  float goal_x[TARGET_MAX_GOALS];
  float goal_y[TARGET_MAX_GOALS];
  int32_t steps;                     // since the world began
} target_state;


static inline void target_spawn_goal(target_state *s, int32_t g) {
  s->goal_x[g] = rng_uniform(s->rng, 0.0f, TARGET_WIDTH);
  s->goal_y[g] = rng_uniform(s->rng, 0.0f, TARGET_HEIGHT);
}


// reset the hunters that ended, one after the other, at rest
static inline void target_respawn(const target_params *p, target_state *s, const uint8_t *ended) {
  for (int32_t i = 0; i < p->num_hunters; i++) {
    if (!ended[i]) continue;
    s->x[i] = rng_uniform(s->rng, 0.0f, TARGET_WIDTH);
    s->y[i] = rng_uniform(s->rng, 0.0f, TARGET_HEIGHT);
    s->heading[i] = rng_uniform(s->rng, -TARGET_HALF_TURN, TARGET_HALF_TURN);
    s->speed[i] = 0.0f;
    s->reward[i] = 0.0f;
    s->idle[i] = 0;
    s->reached[i] = 0;
  }
}


static inline void target_init(const target_params *p, target_state *s) {
  uint8_t all[TARGET_MAX_AGENTS];
  memset(all, 1, sizeof all);
  s->steps = 0;
  for (int32_t g = 0; g < p->num_goals; g++) target_spawn_goal(s, g);
  target_respawn(p, s, all);
}


static inline void target_transition(const target_params *p, target_state *s, const int32_t *action, outcome *out,
                                     int32_t *reset) {
  s->steps++;
  *reset = s->steps >= p->max_steps;

  // all turn, speed up and move, within the plane
  float sine[TARGET_MAX_AGENTS], cosine[TARGET_MAX_AGENTS];
  for (int32_t i = 0; i < p->num_hunters; i++) {
    float turn = (float)(action[TARGET_CHOICES * i] - TARGET_STRAIGHT) * TARGET_TURNING;
    float heading = s->heading[i] + turn;
    s->heading[i] = heading - TARGET_TURN * num_floor(heading * TARGET_PER_TURN + 0.5f);
    float faster = (float)(action[TARGET_CHOICES * i + 1] - TARGET_STEADY);
    s->speed[i] = num_clip(s->speed[i] + faster, -TARGET_MAX_SPEED, TARGET_MAX_SPEED);
    s->reward[i] = 0.0f;
  }
  for (int32_t i = 0; i < p->num_hunters; i++) num_sin_cos(s->heading[i], &sine[i], &cosine[i]);
  for (int32_t i = 0; i < p->num_hunters; i++) {
    s->x[i] = num_clip(s->x[i] + s->speed[i] * cosine[i], 0.0f, TARGET_WIDTH);
    s->y[i] = num_clip(s->y[i] + s->speed[i] * sine[i], 0.0f, TARGET_HEIGHT);
  }

  // a goal is the first hunter's within reach, and then appears elsewhere
  for (int32_t g = 0; g < p->num_goals; g++) {
    for (int32_t i = 0; i < p->num_hunters; i++) {
      float dx = s->goal_x[g] - s->x[i], dy = s->goal_y[g] - s->y[i];
      if (dx * dx + dy * dy > TARGET_REACH_SQUARED) continue;
      s->reward[i] = s->reward[i] + 1.0f;
      s->reached[i]++;
      target_spawn_goal(s, g);
      break;
    }
  }

  // a hunter without a goal for too long is moved to another place
  for (int32_t i = 0; i < p->num_hunters; i++) {
    s->idle[i] = s->reward[i] > 0.0f ? 0 : s->idle[i] + 1;
    out[i].reward = s->reward[i];
    out[i].terminated = 0;
    out[i].truncated = s->idle[i] >= p->patience;
  }
}


static inline void target_observe(const target_params *p, const target_state *s, float *restrict obs) {
  // everything observed, alternating x and y, as in a row of observations
  float at[2 * (TARGET_MAX_GOALS + TARGET_MAX_AGENTS)];
  int32_t n = 0;
  for (int32_t g = 0; g < p->num_goals; g++, n += 2) at[n] = s->goal_x[g], at[n + 1] = s->goal_y[g];
  for (int32_t j = 0; j < p->num_hunters; j++, n += 2) at[n] = s->x[j], at[n + 1] = s->y[j];
  for (int32_t i = 0; i < p->num_hunters; i++) {
    float x = s->x[i], y = s->y[i];
    for (int32_t k = 0; k < n; k += 2) {
      obs[k] = (at[k] - x) * TARGET_PER_WIDTH;
      obs[k + 1] = (at[k + 1] - y) * TARGET_PER_WIDTH;
    }
    obs += n;
    *obs++ = s->heading[i] * TARGET_PER_TURN;
    *obs++ = s->reward[i];
    *obs++ = x * TARGET_PER_WIDTH;
    *obs++ = y * TARGET_PER_WIDTH;
  }
}


static inline void target_score(const target_params *p, const target_state *s, float *score) {
  for (int32_t i = 0; i < p->num_hunters; i++) score[i] = (float)s->reached[i];
}


static inline void target_perf(const target_params *p, const target_state *s, float *perf) {
  float good = TARGET_GOOD_SHARE * (float)p->max_steps;
  for (int32_t i = 0; i < p->num_hunters; i++) {
    float share = (float)s->reached[i] * (1.0f / good);
    perf[i] = share < 1.0f ? share : 1.0f;
  }
}
