// env.h: the base of every environment's header.
//
// An environment is plain structs NAME_params and NAME_state and pure functions on
// them, named and ordered as in its JAX twin envs_jax/NAME.py:
//
//   void  NAME_init(const NAME_params *p, NAME_state *s)             draws from s->rng
//   void  NAME_transition(const NAME_params *p, NAME_state *s, const ACTION *action, outcome *out)
//   void  NAME_observe(const NAME_params *p, const NAME_state *s, OBS *obs)
//   void  NAME_action_mask(const NAME_params *p, const NAME_state *s, uint8_t *mask)   optional
//   float NAME_score(const NAME_params *p, const NAME_state *s)
//   float NAME_perf(const NAME_params *p, const NAME_state *s)                         optional
//   void  NAME_figures(const NAME_params *p, const NAME_state *s, NAME_log *log)       optional
//
// ACTION is int32_t or float, OBS is float, int8_t, uint8_t or int32_t. If agents see several parts, OBS is a plain
// struct NAME_obs of arrays and numbers of these types, with the fields of the twin's observation in their order.
// NAME_log is a struct of floats, the environment's own figures in the log. What a function fills is all zeros when it
// gets it, except a mask and an observation that is an array: set every entry of these.
//
// A multi-agent world also has NAME_respawn and takes and fills one entry per agent:
//
//   void NAME_transition(..., const ACTION *action, outcome *out, int32_t *reset)   *reset: the whole world ends
//   void NAME_respawn(const NAME_params *p, NAME_state *s, const uint8_t *ended)
//   void NAME_score(const NAME_params *p, const NAME_state *s, float *score), and NAME_perf in the same way
//   void NAME_active(const NAME_params *p, const NAME_state *s, uint8_t *active)    optional: who acts now
//
// NAME_params holds int32_t and float only, in the order of the twin's parameters.
// NAME_state starts with `uint32_t rng[2]`, has the twin's fields in their order, and
// no padding: its fields are uint32_t, int32_t, float, uint8_t (for bool too), int8_t
// or int16_t, and narrow arrays have a length that fills whole 32-bit words. An array
// whose length depends on a parameter has a capacity; its used prefix is laid out as
// the twin's array is.
#pragma once

#include <stdint.h>
#include <string.h>

#include "numerics.h"
#include "rng.h"

// the result of one transition for an agent
typedef struct {
  float reward;
  int32_t terminated;  // the rules ended the episode
  int32_t truncated;   // the time limit ended it
} outcome;
