// go_two.h: Go for two sides that move in turns. Twin of GoTwo in envs_jax/go.py.
//
// observation  float32 (2 size^2 + 4,): stones of the side that moves and the other's, row by row from the top; stones
//              that it captured and lost, over the number of points; 1 if the other side has just passed; the komi in
//              its favour, over the number of points
// action       discrete   0 pass, 1 + size * row + column a stone; an illegal action is masked, and a pass if played
// reward       1 if side 0, which begins, wins, -1 if side 1 does, 0 for a draw
// ends         terminated when the game is scored, truncated after max_steps
#pragma once

#include "go.h"

enum { GO_TWO_MOVES = 3 };  // for each point, then the game is scored

typedef struct {
  int32_t size;
  float komi;         // points added to the area of side 1
  int32_t max_steps;  // moves before truncation
} go_two_params;

// `own`, `captured` and `lost` are of the side that moves next, `passed` is of the other, the outcome is that of side 0
typedef go_state go_two_state;


static inline int32_t go_two_to_play(const go_two_state *s) { return s->steps & 1; }


// the parameters of the single-player form
static inline go_params go_two_single(const go_two_params *p) {
  return (go_params){p->size, p->komi, 0.0f, p->max_steps};
}


static inline void go_two_init(const go_two_params *p, go_two_state *s) {
  (void)p;
  go_init(NULL, s);
}


static inline void go_two_action_mask(const go_two_params *p, const go_two_state *s, uint8_t *mask) {
  go_params single = go_two_single(p);
  go_action_mask(&single, s, mask);
}


// a move; the transition below makes two versions of it
GO_INLINE void go_two_turn(const go_two_params *p, go_geometry g, go_two_state *s, const int32_t *action,
                           outcome *out) {
  uint32_t stone[GO_WORDS], legal[GO_WORDS];
  int32_t side = go_two_to_play(s);
  s->steps++;

  // a stone; an illegal action is a pass
  int32_t point = *action - 1;
  go_point(&g, point, stone);
  go_legal(&g, s, s->own, s->theirs, legal);
  for (int32_t w = 0; w < g.words; w++) legal[w] &= stone[w];
  int32_t passes = !go_any(&g, legal);
  s->captured += go_place(&g, s, s->own, s->theirs, passes ? GO_NOWHERE : point);

  // the game is over after the last move, and after a pass if the other side has passed too or is ahead
  int32_t last = s->steps >= GO_TWO_MOVES * g.size * g.size;
  float area = passes || last ? (float)go_area(&g, s->own, s->theirs) : 0.0f;
  float ahead = area - (side == 0 ? p->komi : -p->komi);
  int32_t over = last || (passes && (s->passed || ahead < 0.0f));
  int32_t gain = !over ? 0 : ahead > 0.0f ? 1 : ahead < 0.0f ? -1 : 0;
  s->outcome = side == 0 ? gain : -gain;

  // then it is the other side's turn
  for (int32_t w = 0; w < g.words; w++) {
    uint32_t word = s->own[w];
    s->own[w] = s->theirs[w];
    s->theirs[w] = word;
  }
  int32_t captured = s->captured;
  s->captured = s->lost;
  s->lost = captured;
  s->passed = passes;

  out->reward = (float)s->outcome;
  out->terminated = over;
  out->truncated = s->steps >= p->max_steps;
}


static inline void go_two_transition(const go_two_params *p, go_two_state *s, const int32_t *action, outcome *out) {
  go_geometry g = go_measure(p->size);
  if (p->size == 9) {
    // known to the compiler, which makes this size faster
    g.size = 9, g.stride = 10, g.words = 3;
    go_two_turn(p, g, s, action, out);
  } else {
    go_two_turn(p, g, s, action, out);
  }
}


static inline void go_two_observe(const go_two_params *p, const go_two_state *s, float *obs) {
  go_params single = go_two_single(p);
  go_observe(&single, s, obs);
  int32_t points = p->size * p->size;
  float komi = p->komi * (1.0f / (float)points);
  obs[2 * points + 2] = (float)s->passed;
  obs[2 * points + 3] = go_two_to_play(s) == 0 ? -komi : komi;
}


static inline float go_two_score(const go_two_params *p, const go_two_state *s) {
  (void)p;
  return go_score(NULL, s);
}


static inline float go_two_perf(const go_two_params *p, const go_two_state *s) {
  (void)p;
  return go_perf(NULL, s);
}
