// connect4_two.h: four in a row for two sides that move in turns. Twin of Connect4Two in envs_jax/connect4.py.
//
// observation  float32 (42,), row by row from the top: 1 of the side that moves, -1 the other's, 0 empty
// action       discrete   7 columns; a full one is masked, and loses if played
// reward       1 if side 0, which begins, wins, -1 if side 1 does, 0 for a draw
// ends         terminated at four in a row and on a full board, truncated after max_steps
#pragma once

#include "connect4.h"

typedef struct {
  int32_t max_steps;  // moves before truncation
} connect4_two_params;

// `own` are the discs of the side that moves next, the outcome is that of side 0
typedef connect4_state connect4_two_state;


static inline int32_t connect4_two_to_play(const connect4_two_state *s) { return s->steps & 1; }


static inline void connect4_two_init(const connect4_two_params *p, connect4_two_state *s) {
  (void)p;
  s->own[0] = s->own[1] = s->theirs[0] = s->theirs[1] = 0;
  s->outcome = 0;
  s->steps = 0;
}


static inline void connect4_two_action_mask(const connect4_two_params *p, const connect4_two_state *s, uint8_t *mask) {
  (void)p;
  connect4_action_mask(NULL, s, mask);
}


static inline void connect4_two_transition(const connect4_two_params *p, connect4_two_state *s, const int32_t *action,
                                           outcome *out) {
  uint64_t own = connect4_cells(s->own), taken = own | connect4_cells(s->theirs);
  uint64_t cell = connect4_playable(taken) & connect4_column(*action);
  int32_t full = cell != 0 && (taken | cell) == CONNECT4_BOARD;

  // a full column loses, four in a row wins; then it is the other side's turn
  int32_t gain = cell == 0 ? -1 : connect4_four(own | cell);
  s->outcome = connect4_two_to_play(s) == 0 ? gain : -gain;
  connect4_put(s->own, cell);
  for (int32_t k = 0; k < 2; k++) {
    uint32_t word = s->own[k];
    s->own[k] = s->theirs[k];
    s->theirs[k] = word;
  }
  s->steps++;
  out->reward = (float)s->outcome;
  out->terminated = s->outcome != 0 || full;
  out->truncated = s->steps >= p->max_steps;
}


static inline void connect4_two_observe(const connect4_two_params *p, const connect4_two_state *s, float *obs) {
  (void)p;
  connect4_observe(NULL, s, obs);
}


static inline float connect4_two_score(const connect4_two_params *p, const connect4_two_state *s) {
  (void)p;
  return connect4_score(NULL, s);
}


static inline float connect4_two_perf(const connect4_two_params *p, const connect4_two_state *s) {
  (void)p;
  return connect4_perf(NULL, s);
}
