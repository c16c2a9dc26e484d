// cartpole_continuous.h: cartpole pushed by a chosen force. Twin of CartPoleContinuous in envs_jax/cartpole.py.
//
// The same as cartpole.h, except for the action:
// action       float (1)  force as a fraction of the largest push, -1 left to 1 right; clipped
#pragma once

#include "cartpole.h"

typedef cartpole_params cartpole_continuous_params;
typedef cartpole_state cartpole_continuous_state;


static inline void cartpole_continuous_init(const cartpole_params *p, cartpole_state *s) {
  cartpole_init(p, s);
}


static inline void cartpole_continuous_transition(const cartpole_params *p, cartpole_state *s, const float *action,
                                                  outcome *out) {
  float fraction = *action < -1.0f ? -1.0f : *action > 1.0f ? 1.0f : *action;
  cartpole_push(p, s, fraction, out);
}


static inline void cartpole_continuous_observe(const cartpole_params *p, const cartpole_state *s, float *obs) {
  cartpole_observe(p, s, obs);
}


static inline float cartpole_continuous_score(const cartpole_params *p, const cartpole_state *s) {
  return cartpole_score(p, s);
}


static inline float cartpole_continuous_perf(const cartpole_params *p, const cartpole_state *s) {
  return cartpole_perf(p, s);
}
