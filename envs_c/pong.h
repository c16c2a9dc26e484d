// pong.h: return the ball past a scripted opponent. Twin of envs_jax/pong.py.
//
// The player's paddle is at the right end of the field, the opponent's at the left.
// Lengths are in pixels and whole; y points up, the ball's and the paddles' positions
// are their lower left corners. A step plays frame_skip frames, but stops at a point.
//
// observation  float32 (8,)  player's paddle y, opponent's paddle y, ball x, ball y, each from
//                         -1 to 1 over its range; ball vx / ball_speed_x; ball vy /
//                         ball_max_speed_y; player's and opponent's points / max_score
// action       discrete   0 stay, 1 up, 2 down
// reward       +1 for a point won, -1 for a point lost, otherwise +0.1 for returning the ball
// ends         terminated when either has max_score points, truncated after max_steps
#pragma once

#include "env.h"

enum { PONG_STAY, PONG_UP, PONG_DOWN };

#define PONG_FIELD_WIDTH 500    // px
#define PONG_FIELD_HEIGHT 640   // px
#define PONG_PADDLE_HEIGHT 70   // px
#define PONG_BALL_SIZE 32       // px, the side of a square
#define PONG_BALL_MAX_X (PONG_FIELD_WIDTH - PONG_BALL_SIZE)
#define PONG_BALL_MAX_Y (PONG_FIELD_HEIGHT - PONG_BALL_SIZE)
#define PONG_PADDLE_MIN_Y (-PONG_PADDLE_HEIGHT / 2)  // a paddle's middle stays in the field
#define PONG_PADDLE_MAX_Y (PONG_FIELD_HEIGHT - PONG_PADDLE_HEIGHT / 2)
#define PONG_PADDLE_START_Y ((PONG_FIELD_HEIGHT - PONG_PADDLE_HEIGHT) / 2)
#define PONG_SERVE_X (PONG_FIELD_WIDTH / 5)  // on the opponent's side
#define PONG_SERVE_Y (PONG_BALL_MAX_Y / 2)
#define PONG_RETURN_REWARD 0.1f

// inlined, so that the state stays in registers during a step
#define PONG_INLINE static inline __attribute__((always_inline))

typedef struct {
  int32_t frame_skip;        // frames per step
  int32_t max_score;         // points that win the match
  int32_t max_steps;         // steps before truncation
  int32_t paddle_speed;      // px per frame, of the player's paddle
  int32_t opponent_speed;    // px per frame at most, of the opponent
  int32_t ball_speed_x;      // px per frame
  int32_t ball_max_speed_y;  // px per frame
  int32_t serve_speed_y;     // px per frame, up or down
  int32_t spin;              // px per frame that a moving paddle adds to vy
} pong_params;

typedef struct {
  uint32_t rng[2];
  int32_t player_y;         // lower end of the right paddle, px
  int32_t opponent_y;       // lower end of the left paddle, px
  int32_t ball_x;           // left edge, px
  int32_t ball_y;           // lower edge, px
  int32_t ball_vx;          // px per frame, towards the player if positive
  int32_t ball_vy;          // px per frame, upwards if positive
  int32_t player_points;    // in this match
  int32_t opponent_points;  // in this match
  int32_t steps;            // since the match began
} pong_state;


static inline int32_t pong_clip(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : value > high ? high : value;
}


// both paddles to the middle; the opponent serves, upwards or downwards with equal chances
static inline void pong_serve(const pong_params *p, pong_state *s) {
  int32_t speed_y = pong_clip(p->serve_speed_y, 0, p->ball_max_speed_y);
  s->player_y = PONG_PADDLE_START_Y;
  s->opponent_y = PONG_PADDLE_START_Y;
  s->ball_x = PONG_SERVE_X;
  s->ball_y = PONG_SERVE_Y;
  s->ball_vx = p->ball_speed_x;
  s->ball_vy = rng_below(s->rng, 2) ? speed_y : -speed_y;
}


static inline void pong_init(const pong_params *p, pong_state *s) {
  s->player_points = 0;
  s->opponent_points = 0;
  s->steps = 0;
  pong_serve(p, s);
}


// a frame: the paddles move by their steps, then the ball, to which a paddle that returns it adds its spin. Says if the
// player returned it; 1 for a point to the player, -1 for one to the opponent
PONG_INLINE int32_t pong_frame(pong_state *s, int32_t player_step, int32_t opponent_step, int32_t player_spin,
                               int32_t opponent_spin, int32_t max_speed_y, int32_t *returned) {
  s->player_y = pong_clip(s->player_y + player_step, PONG_PADDLE_MIN_Y, PONG_PADDLE_MAX_Y);
  s->opponent_y = pong_clip(s->opponent_y + opponent_step, PONG_PADDLE_MIN_Y, PONG_PADDLE_MAX_Y);

  // the ball moves, and bounces off the walls above and below
  s->ball_x += s->ball_vx;
  s->ball_y += s->ball_vy;
  if (s->ball_y < 0 || s->ball_y > PONG_BALL_MAX_Y) s->ball_vy = -s->ball_vy;
  s->ball_y = pong_clip(s->ball_y, 0, PONG_BALL_MAX_Y);

  // at either end a paddle returns it, or a point is won
  int at_player = s->ball_x > PONG_BALL_MAX_X;
  if (s->ball_x >= 0 && !at_player) return 0;
  int32_t paddle_y = at_player ? s->player_y : s->opponent_y;
  if (s->ball_y + PONG_BALL_SIZE <= paddle_y || s->ball_y >= paddle_y + PONG_PADDLE_HEIGHT) return at_player ? -1 : 1;
  s->ball_vx = -s->ball_vx;
  s->ball_x = pong_clip(s->ball_x, 0, PONG_BALL_MAX_X);
  s->ball_vy = pong_clip(s->ball_vy + (at_player ? player_spin : opponent_spin), -max_speed_y, max_speed_y);
  *returned |= at_player;
  return 0;
}


static inline void pong_transition(const pong_params *p, pong_state *s, const int32_t *action, outcome *out) {
  int32_t direction = (*action == PONG_UP) - (*action == PONG_DOWN);
  int32_t step = direction * p->paddle_speed, spin = direction * p->spin;
  int32_t opponent_speed = p->opponent_speed, max_speed_y = p->ball_max_speed_y;
  pong_state now = *s;
  int32_t returned = 0;  // by the player
  int32_t point = 0;     // +1 to the player, -1 to the opponent

  for (int32_t frame = 0; frame < p->frame_skip && point == 0; frame++) {
    // the opponent's middle goes to the ball's lower edge
    int32_t lag = now.ball_y - (now.opponent_y + PONG_PADDLE_HEIGHT / 2);
    int32_t opponent_step = pong_clip(lag, -opponent_speed, opponent_speed);
    point = pong_frame(&now, step, opponent_step, spin, 0, max_speed_y, &returned);
  }

  *s = now;
  s->player_points += point > 0;
  s->opponent_points += point < 0;
  s->steps++;

  // after a point the ball is served again
  if (point != 0) pong_serve(p, s);

  out->reward = point != 0 ? (float)point : returned ? PONG_RETURN_REWARD : 0.0f;
  out->terminated = s->player_points >= p->max_score || s->opponent_points >= p->max_score;
  out->truncated = s->steps >= p->max_steps;
}


static inline void pong_observe(const pong_params *p, const pong_state *s, float *obs) {
  // whole numbers of half pixels from the middle: each is rounded once
  float per_paddle_y = 1.0f / (float)PONG_FIELD_HEIGHT;
  float per_point = 1.0f / (float)p->max_score;
  obs[0] = (float)(2 * s->player_y + PONG_PADDLE_HEIGHT - PONG_FIELD_HEIGHT) * per_paddle_y;
  obs[1] = (float)(2 * s->opponent_y + PONG_PADDLE_HEIGHT - PONG_FIELD_HEIGHT) * per_paddle_y;
  obs[2] = (float)(2 * s->ball_x - PONG_BALL_MAX_X) * (1.0f / (float)PONG_BALL_MAX_X);
  obs[3] = (float)(2 * s->ball_y - PONG_BALL_MAX_Y) * (1.0f / (float)PONG_BALL_MAX_Y);
  obs[4] = (float)s->ball_vx * (1.0f / (float)p->ball_speed_x);
  obs[5] = (float)s->ball_vy * (1.0f / (float)p->ball_max_speed_y);
  obs[6] = (float)s->player_points * per_point;
  obs[7] = (float)s->opponent_points * per_point;
}


// the points by which the player leads
static inline float pong_score(const pong_params *p, const pong_state *s) {
  (void)p;
  return (float)(s->player_points - s->opponent_points);
}


// 0 for a match lost without winning a point, 1 for one won without losing a point
static inline float pong_perf(const pong_params *p, const pong_state *s) {
  float lead = (float)(s->player_points - s->opponent_points + p->max_score);
  return lead * (1.0f / (float)(2 * p->max_score));
}
