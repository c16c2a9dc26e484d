// boids.h: boids that learn to fly as a flock. Twin of envs_jax/boids.py.
//
// observation  float32 (num_boids, 4): offset and relative velocity of each boid; in its own row its position and
//              velocity
// action       two choices   0 to 4 add -4 to 4 px per step to the velocity, to the right and downwards
// reward       for neighbours, for flying in their direction, less for crowding
// ends         the world is reset after max_steps, which truncates all
#pragma once

#include "env.h"

enum { BOIDS_MAX_AGENTS = 128, BOIDS_FEATURES = 4, BOIDS_CHOICES = 2, BOIDS_STEADY = 2 };
enum { BOIDS_WIDTH = 1080, BOIDS_HEIGHT = 720 };         // px
enum { BOIDS_SIGHT_SQUARED = 10000 };                    // px^2: neighbours are nearer than 100 px
enum { BOIDS_TOUCH_SQUARED = 400 };                      // px^2: those nearer than 20 px crowd
enum { BOIDS_PUSH = 2, BOIDS_MAX_SPEED = 10 };           // px per step: per choice, and the most along either axis
enum { BOIDS_FLOCK = 8, BOIDS_CROWD = 5 };               // most neighbours that count
enum { BOIDS_COMPANY = 4, BOIDS_WITH_THEM = 50 };        // least for flying in a flock: neighbours, px^2 per step^2

#define BOIDS_PER_FLOCK 0.125f          // 1/8
#define BOIDS_PER_CROWD 0.2f            // 1/5
#define BOIDS_MAX_SPEED_SQUARED 200     // px^2 per step^2
#define BOIDS_PER_WIDTH 9.2592593e-4f   // 1/px, of observed offsets and positions
#define BOIDS_PER_MAX_SPEED 0.1f        // steps per px, of observed velocities

typedef struct {
  int32_t num_boids;
  float cohesion;     // reward per step for enough neighbours
  float alignment;    // reward per step for flying like its neighbours
  float avoidance;    // penalty per step for a full crowd
  int32_t max_steps;  // steps of the world before it is reset
} boids_params;

typedef struct {
  uint32_t rng[2];
  int32_t x[BOIDS_MAX_AGENTS];        // px from the left
  int32_t y[BOIDS_MAX_AGENTS];        // px from the top
  int32_t vx[BOIDS_MAX_AGENTS];       // px per step
  int32_t vy[BOIDS_MAX_AGENTS];
  int32_t flocked[BOIDS_MAX_AGENTS];  // steps that it flew in a flock
  int32_t steps;                      // since the world began
} boids_state;


static inline void boids_init(const boids_params *p, boids_state *s) {
  for (int32_t i = 0; i < p->num_boids; i++) {
    s->x[i] = rng_below(s->rng, BOIDS_WIDTH + 1);
    s->y[i] = rng_below(s->rng, BOIDS_HEIGHT + 1);
    s->vx[i] = rng_below(s->rng, 2 * BOIDS_MAX_SPEED + 1) - BOIDS_MAX_SPEED;
    s->vy[i] = rng_below(s->rng, 2 * BOIDS_MAX_SPEED + 1) - BOIDS_MAX_SPEED;
    s->flocked[i] = 0;
  }
  s->steps = 0;
}


// no agent ends before the world does
static inline void boids_respawn(const boids_params *p, boids_state *s, const uint8_t *ended) {
  (void)p, (void)s, (void)ended;
}


// a boid's neighbours, those that crowd it, and the sum of the neighbours' velocities
static inline void boids_neighbours(const boids_params *p, const boids_state *s, int32_t i, int32_t *near,
                                    int32_t *crowd, int32_t *sum_x, int32_t *sum_y) {
  int32_t n = 0, c = 0, sx = 0, sy = 0;
  for (int32_t j = 0; j < p->num_boids; j++) {
    int32_t dx = s->x[j] - s->x[i], dy = s->y[j] - s->y[i];
    int32_t squared = dx * dx + dy * dy, seen = squared < BOIDS_SIGHT_SQUARED;
    n += seen;
    c += squared < BOIDS_TOUCH_SQUARED;
    sx += seen ? s->vx[j] : 0;
    sy += seen ? s->vy[j] : 0;
  }
  // all but itself
  *near = n - 1;
  *crowd = c - 1;
  *sum_x = sx - s->vx[i];
  *sum_y = sy - s->vy[i];
}


// one coordinate of one boid: change the velocity, move, and stop at the edge
static inline void boids_move(int32_t *x, int32_t *v, int32_t action, int32_t edge) {
  int32_t faster = *v + BOIDS_PUSH * (action - BOIDS_STEADY);
  *v = faster < -BOIDS_MAX_SPEED ? -BOIDS_MAX_SPEED : faster > BOIDS_MAX_SPEED ? BOIDS_MAX_SPEED : faster;
  int32_t to = *x + *v;
  *x = to < 0 ? 0 : to > edge ? edge : to;
  *v = *x == to ? *v : 0;
}


static inline void boids_transition(const boids_params *p, boids_state *s, const int32_t *action, outcome *out,
                                    int32_t *reset) {
  s->steps++;
  *reset = s->steps >= p->max_steps;

  // all move
  for (int32_t i = 0; i < p->num_boids; i++) {
    boids_move(&s->x[i], &s->vx[i], action[BOIDS_CHOICES * i], BOIDS_WIDTH);
    boids_move(&s->y[i], &s->vy[i], action[BOIDS_CHOICES * i + 1], BOIDS_HEIGHT);
  }

  // neighbours, up to a flock, and flying in their direction are rewarded; a crowd is penalised
  float per_neighbour = p->cohesion * BOIDS_PER_FLOCK, per_crowding = p->avoidance * BOIDS_PER_CROWD;
  for (int32_t i = 0; i < p->num_boids; i++) {
    int32_t near, crowd, sum_x, sum_y;
    boids_neighbours(p, s, i, &near, &crowd, &sum_x, &sum_y);
    int32_t along = s->vx[i] * sum_x + s->vy[i] * sum_y;
    float aligned = (float)along / (float)(BOIDS_MAX_SPEED_SQUARED * (near > 0 ? near : 1));
    float company = (float)(near < BOIDS_FLOCK ? near : BOIDS_FLOCK);
    float crowding = (float)(crowd < BOIDS_CROWD ? crowd : BOIDS_CROWD);
    out[i].reward = per_neighbour * company + p->alignment * aligned - per_crowding * crowding;
    out[i].terminated = 0;
    out[i].truncated = 0;
    s->flocked[i] += near >= BOIDS_COMPANY && crowd == 0 && along >= BOIDS_WITH_THEM * near;
  }
}


static inline void boids_observe(const boids_params *p, const boids_state *s, float *obs) {
  for (int32_t i = 0; i < p->num_boids; i++) {
    float *row = obs;
    for (int32_t j = 0; j < p->num_boids; j++, row += BOIDS_FEATURES) {
      row[0] = (float)(s->x[j] - s->x[i]) * BOIDS_PER_WIDTH;
      row[1] = (float)(s->y[j] - s->y[i]) * BOIDS_PER_WIDTH;
      row[2] = (float)(s->vx[j] - s->vx[i]) * BOIDS_PER_MAX_SPEED;
      row[3] = (float)(s->vy[j] - s->vy[i]) * BOIDS_PER_MAX_SPEED;
    }
    float *own = obs + BOIDS_FEATURES * i;
    own[0] = (float)s->x[i] * BOIDS_PER_WIDTH;
    own[1] = (float)s->y[i] * BOIDS_PER_WIDTH;
    own[2] = (float)s->vx[i] * BOIDS_PER_MAX_SPEED;
    own[3] = (float)s->vy[i] * BOIDS_PER_MAX_SPEED;
    obs = row;
  }
}


static inline void boids_score(const boids_params *p, const boids_state *s, float *score) {
  float per_step = 1.0f / (float)(s->steps > 0 ? s->steps : 1);
  for (int32_t i = 0; i < p->num_boids; i++) score[i] = (float)s->flocked[i] * per_step;
}
