// cartpole.h: balance a pole on a cart. Twin of envs_jax/cartpole.py.
//
// observation  float32 (4,)  position in m, velocity in m/s, angle in rad, angular velocity in rad/s
// action       discrete   0 push left, 1 push right
// reward       +1 for every step
// ends         terminated when the cart leaves the track or the pole leans too far,
//              truncated after max_steps
#pragma once

#include "env.h"

#define CARTPOLE_STEP_SECONDS 0.02f
#define CARTPOLE_TRACK_HALF_LENGTH 2.4f      // m
#define CARTPOLE_MAX_ANGLE 0.20943951f       // rad, 12 degrees
#define CARTPOLE_START 0.05f                 // every state variable starts at most this far from zero
#define CARTPOLE_ROD_INERTIA 1.33333333f     // 4/3: a uniform rod about its end

typedef struct {
  float gravity;      // m/s^2
  float cart_mass;    // kg
  float pole_mass;    // kg
  float half_length;  // m, from the hinge to the pole's centre
  float force;        // N, of a push
  int32_t max_steps;  // steps before truncation
} cartpole_params;

typedef struct {
  uint32_t rng[2];
  float position;          // m, of the cart, 0 in the middle
  float velocity;          // m/s
  float angle;             // rad, 0 upright, positive to the right
  float angular_velocity;  // rad/s
  int32_t steps;           // since the episode began
} cartpole_state;


static inline void cartpole_init(const cartpole_params *p, cartpole_state *s) {
  (void)p;
  s->position = rng_uniform(s->rng, -CARTPOLE_START, CARTPOLE_START);
  s->velocity = rng_uniform(s->rng, -CARTPOLE_START, CARTPOLE_START);
  s->angle = rng_uniform(s->rng, -CARTPOLE_START, CARTPOLE_START);
  s->angular_velocity = rng_uniform(s->rng, -CARTPOLE_START, CARTPOLE_START);
  s->steps = 0;
}


// the physics, pushed by a fraction of the largest force
static inline void cartpole_push(const cartpole_params *p, cartpole_state *s, float fraction, outcome *out) {
  // accelerations of cart and pole; each term of parameters alone is one factor
  float per_mass = 1.0f / (p->cart_mass + p->pole_mass);
  float pole_share = p->pole_mass * per_mass;
  float pole_arm = pole_share * p->half_length;
  float force_per_mass = p->force * per_mass;
  float sine = num_sin(s->angle);
  float cosine = num_cos(s->angle);
  float push = fraction * force_per_mass + pole_arm * (s->angular_velocity * s->angular_velocity * sine);
  float lever = p->half_length * (CARTPOLE_ROD_INERTIA - pole_share * (cosine * cosine));
  float angular_acceleration = (p->gravity * sine - cosine * push) / lever;
  float acceleration = push - pole_arm * (angular_acceleration * cosine);

  // explicit Euler: positions move by the old velocities
  s->position = s->position + CARTPOLE_STEP_SECONDS * s->velocity;
  s->velocity = s->velocity + CARTPOLE_STEP_SECONDS * acceleration;
  s->angle = s->angle + CARTPOLE_STEP_SECONDS * s->angular_velocity;
  s->angular_velocity = s->angular_velocity + CARTPOLE_STEP_SECONDS * angular_acceleration;
  s->steps++;

  // off the track, or fallen too far?
  int32_t off_track = s->position < -CARTPOLE_TRACK_HALF_LENGTH || s->position > CARTPOLE_TRACK_HALF_LENGTH;
  int32_t fallen = s->angle < -CARTPOLE_MAX_ANGLE || s->angle > CARTPOLE_MAX_ANGLE;

  out->reward = 1.0f;
  out->terminated = off_track || fallen;
  out->truncated = s->steps >= p->max_steps;
}


static inline void cartpole_transition(const cartpole_params *p, cartpole_state *s, const int32_t *action,
                                       outcome *out) {
  cartpole_push(p, s, *action == 1 ? 1.0f : -1.0f, out);
}


static inline void cartpole_observe(const cartpole_params *p, const cartpole_state *s, float *obs) {
  (void)p;
  obs[0] = s->position;
  obs[1] = s->velocity;
  obs[2] = s->angle;
  obs[3] = s->angular_velocity;
}


static inline float cartpole_score(const cartpole_params *p, const cartpole_state *s) {
  (void)p;
  return (float)s->steps;
}


static inline float cartpole_perf(const cartpole_params *p, const cartpole_state *s) {
  return (float)s->steps * (1.0f / (float)p->max_steps);
}
