// pong_two.h: two sides return the ball past each other. Twin of PongTwo in envs_jax/pong.py.
//
// Side 0's paddle is at the right end of the field, side 1's at the left, and each sees the field as if its own paddle
// were at the right. Frames are those of pong.h, but both paddles obey actions and add spin.
//
// observation  float32 (8,)  own paddle y, the other's paddle y, ball x, ball y, each from
//                         -1 to 1 over its range; ball vx / ball_speed_x; ball vy /
//                         ball_max_speed_y; own and the other's points / max_score
// action       discrete   0 stay, 1 up, 2 down
// reward       +1 for a point won, -1 for a point lost
// ends         terminated for both when either has max_score points, truncated after max_steps
#pragma once

#include "pong.h"

enum { PONG_TWO_MAX_AGENTS = 2, PONG_TWO_FEATURES = 8 };

typedef struct {
  int32_t frame_skip;        // frames per step
  int32_t max_score;         // points that win the match
  int32_t max_steps;         // steps before truncation
  int32_t paddle_speed;      // px per frame
  int32_t ball_speed_x;      // px per frame
  int32_t ball_max_speed_y;  // px per frame
  int32_t serve_speed_y;     // px per frame, up or down
  int32_t spin;              // px per frame that a moving paddle adds to vy
} pong_two_params;

// the player is side 0, the opponent side 1
typedef pong_state pong_two_state;


// the parameters of the single-player form, whose opponent moves by itself
static inline pong_params pong_two_single(const pong_two_params *p) {
  return (pong_params){p->frame_skip,   p->max_score,        p->max_steps,     p->paddle_speed, 0,
                       p->ball_speed_x, p->ball_max_speed_y, p->serve_speed_y, p->spin};
}


// the game with the ends of the field exchanged
static inline pong_state pong_two_mirrored(const pong_state *s) {
  pong_state mirrored = *s;
  mirrored.player_y = s->opponent_y;
  mirrored.opponent_y = s->player_y;
  mirrored.ball_x = PONG_BALL_MAX_X - s->ball_x;
  mirrored.ball_vx = -s->ball_vx;
  mirrored.player_points = s->opponent_points;
  mirrored.opponent_points = s->player_points;
  return mirrored;
}


// both paddles to the middle; either side serves, upwards or downwards, with equal chances
static inline void pong_two_serve(const pong_two_params *p, pong_state *s) {
  pong_params single = pong_two_single(p);
  pong_serve(&single, s);
  if (rng_below(s->rng, 2)) {
    s->ball_x = PONG_BALL_MAX_X - s->ball_x;
    s->ball_vx = -s->ball_vx;
  }
}


static inline void pong_two_init(const pong_two_params *p, pong_state *s) {
  s->player_points = 0;
  s->opponent_points = 0;
  s->steps = 0;
  pong_two_serve(p, s);
}


static inline void pong_two_transition(const pong_two_params *p, pong_state *s, const int32_t *action, outcome *out,
                                       int32_t *reset) {
  int32_t step[PONG_TWO_MAX_AGENTS], spin[PONG_TWO_MAX_AGENTS];
  for (int32_t side = 0; side < PONG_TWO_MAX_AGENTS; side++) {
    int32_t direction = (action[side] == PONG_UP) - (action[side] == PONG_DOWN);
    step[side] = direction * p->paddle_speed;
    spin[side] = direction * p->spin;
  }
  int32_t max_speed_y = p->ball_max_speed_y;
  pong_state now = *s;
  int32_t returned = 0;  // by side 0, which earns nothing here
  int32_t point = 0;     // +1 to side 0, -1 to side 1

  for (int32_t frame = 0; frame < p->frame_skip && point == 0; frame++)
    point = pong_frame(&now, step[0], step[1], spin[0], spin[1], max_speed_y, &returned);

  *s = now;
  s->player_points += point > 0;
  s->opponent_points += point < 0;
  s->steps++;

  // after a point the ball is served again
  if (point != 0) pong_two_serve(p, s);

  int32_t over = s->player_points >= p->max_score || s->opponent_points >= p->max_score;
  for (int32_t side = 0; side < PONG_TWO_MAX_AGENTS; side++) {
    out[side].reward = (float)(side == 0 ? point : -point);
    out[side].terminated = over;
  }
  *reset = s->steps >= p->max_steps;
}


static inline void pong_two_respawn(const pong_two_params *p, pong_state *s, const uint8_t *ended) {
  (void)p, (void)s, (void)ended;  // no side ends before the other does
}


static inline void pong_two_observe(const pong_two_params *p, const pong_state *s, float *obs) {
  pong_params single = pong_two_single(p);
  pong_state mirrored = pong_two_mirrored(s);
  pong_observe(&single, s, obs);
  pong_observe(&single, &mirrored, obs + PONG_TWO_FEATURES);
}


// the points by which each side leads
static inline void pong_two_score(const pong_two_params *p, const pong_state *s, float *score) {
  (void)p;
  pong_state mirrored = pong_two_mirrored(s);
  score[0] = pong_score(NULL, s);
  score[1] = pong_score(NULL, &mirrored);
}


// 0 for a match lost without winning a point, 1 for one won without losing a point
static inline void pong_two_perf(const pong_two_params *p, const pong_state *s, float *perf) {
  pong_params single = pong_two_single(p);
  pong_state mirrored = pong_two_mirrored(s);
  perf[0] = pong_perf(&single, s);
  perf[1] = pong_perf(&single, &mirrored);
}
