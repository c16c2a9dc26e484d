// breakout.h: clear a wall of bricks with a ball and a paddle. Twin of envs_jax/breakout.py.
//
// observation  float32 (118,)  paddle x and y, ball x and y, ball velocity x and y, balls served,
//                           points, balls left, paddle width; then 108 flags, row by row from
//                           the top, 1 where the brick is gone
// action       discrete     0 stay, 1 left, 2 right
// reward       a brick's points: 7 in the two top rows, 4 in the middle ones, 1 in the bottom ones
// ends         terminated when no ball is left or both walls are cleared (864 points),
//              truncated after max_steps
#pragma once

#include "env.h"

enum { BREAKOUT_STAY, BREAKOUT_LEFT, BREAKOUT_RIGHT };
enum { BREAKOUT_ROWS = 6, BREAKOUT_COLUMNS = 18, BREAKOUT_FAST_ROWS = 3, BREAKOUT_HITS_PER_SPEED_UP = 4 };
enum { BREAKOUT_WALL_POINTS = 432, BREAKOUT_MAX_POINTS = 864 };

// lengths in pixels, x to the right, y downwards
#define BREAKOUT_FRAME_SECONDS 0.0166666667f  // 1/60
#define BREAKOUT_WIDTH 576.0f
#define BREAKOUT_HEIGHT 330.0f
#define BREAKOUT_BALL 32.0f            // width and height of the ball
#define BREAKOUT_BRICK_HEIGHT 12.0f
#define BREAKOUT_BRICK_WIDTH 32.0f
#define BREAKOUT_PER_BRICK_WIDTH 0.03125f
#define BREAKOUT_WALL_TOP 50.0f
#define BREAKOUT_PADDLE_Y 312.0f       // top of the paddle
#define BREAKOUT_SERVE_Y 135.0f        // where the ball's top starts
#define BREAKOUT_SERVE_SINE 0.82298386f    // of the serve's angle to the vertical, pi / 3.25
#define BREAKOUT_SERVE_COSINE 0.56806475f
#define BREAKOUT_BOUNCE_ARC 1.57079637f    // rad, from one edge of the paddle to the other
#define BREAKOUT_BOUNCE_EDGE 0.785398163f  // rad, half of it

// scales of the observation
#define BREAKOUT_PER_WIDTH 0.00173611111f   // 1 / 576
#define BREAKOUT_PER_HEIGHT 0.00303030303f  // 1 / 330
#define BREAKOUT_PER_SPEED 0.001953125f     // 1 / 512 px/s
#define BREAKOUT_PER_POINT 0.00115740741f   // 1 / 864
#define BREAKOUT_PER_PADDLE 0.0161290323f   // 1 / 62

typedef struct {
  int32_t frame_skip;     // frames for which an action is repeated
  float ball_speed;       // px/s, speed of a served ball
  float speed_step;       // px/s, added at every fourth paddle hit
  float max_ball_speed;   // px/s
  float paddle_speed;     // px/s
  float paddle_width;     // px, halved when the ball reaches the ceiling
  int32_t balls;          // balls in a game
  int32_t max_steps;      // steps before truncation
} breakout_params;

typedef struct {
  uint32_t rng[2];
  float paddle_x;      // px, its left edge
  float paddle_width;  // px
  float ball_x;        // px, its left edge
  float ball_y;        // px, its top edge
  float ball_vx;       // px/s
  float ball_vy;       // px/s
  float ball_speed;    // px/s, takes effect at the next paddle hit
  uint32_t gone[BREAKOUT_ROWS];  // bit c of row r: that brick is gone; row 0 is the top
  int32_t points;
  int32_t balls;        // left, the one in play included
  int32_t served;       // balls served since the start
  int32_t paddle_hits;  // since the serve
  int32_t steps;        // since the episode began
} breakout_state;

enum { BREAKOUT_NOTHING, BREAKOUT_WALL, BREAKOUT_BRICK, BREAKOUT_CEILING, BREAKOUT_PADDLE };

// what the ball hits in a frame
typedef struct {
  int32_t what;
  float time;     // of the frame, 0 to 1
  float x, y;     // px, where the ball is then
  float overlap;  // px, of ball and brick
  int32_t row, column;  // of the brick
} breakout_hit;


// a new ball above the middle, falling to a random side
static inline void breakout_serve(const breakout_params *p, breakout_state *s) {
  int32_t right = rng_below(s->rng, 2);
  s->paddle_x = 0.5f * (BREAKOUT_WIDTH - p->paddle_width);
  s->paddle_width = p->paddle_width;
  s->ball_x = 0.5f * (BREAKOUT_WIDTH - BREAKOUT_BALL);
  s->ball_y = BREAKOUT_SERVE_Y;
  s->ball_vx = (right ? BREAKOUT_SERVE_SINE : -BREAKOUT_SERVE_SINE) * p->ball_speed;
  s->ball_vy = BREAKOUT_SERVE_COSINE * p->ball_speed;
  s->ball_speed = p->ball_speed;
  s->served++;
  s->paddle_hits = 0;
}


static inline void breakout_init(const breakout_params *p, breakout_state *s) {
  for (int32_t r = 0; r < BREAKOUT_ROWS; r++) s->gone[r] = 0;
  s->points = 0;
  s->balls = p->balls;
  s->served = 0;
  s->steps = 0;
  breakout_serve(p, s);
}


static inline void breakout_move_paddle(const breakout_params *p, breakout_state *s, int32_t action) {
  float reach = p->paddle_speed * BREAKOUT_FRAME_SECONDS;
  float x = s->paddle_x;
  if (action == BREAKOUT_LEFT) x = x - reach;
  if (action == BREAKOUT_RIGHT) x = x + reach;
  s->paddle_x = num_clip(x, 0.0f, BREAKOUT_WIDTH - s->paddle_width);
}


// the side that the ball may hit when it moves by dx and dy: a wall, or the next column's bricks
static inline breakout_hit breakout_side_hit(const breakout_state *s, float dx, float dy) {
  breakout_hit hit = {BREAKOUT_NOTHING, 2.0f, 0.0f, 0.0f, 0.0f, 0, 0};
  float edge = dx > 0.0f ? s->ball_x + BREAKOUT_BALL : s->ball_x;
  float boundary = edge * BREAKOUT_PER_BRICK_WIDTH;
  float line = dx > 0.0f ? -num_floor(-boundary) : num_floor(boundary);
  line = num_clip(line, 0.0f, (float)BREAKOUT_COLUMNS);  // rounding may have left the ball slightly outside
  int32_t at_wall = dx > 0.0f ? line >= (float)BREAKOUT_COLUMNS : line <= 0.0f;
  hit.x = line * BREAKOUT_BRICK_WIDTH - (dx > 0.0f ? BREAKOUT_BALL : 0.0f);
  if (dx != 0.0f) hit.time = (hit.x - s->ball_x) / dx;
  hit.y = s->ball_y + dy * hit.time;
  if (hit.time > 1.0f) return hit;  // mostly it does not get there in this frame

  // of that column's bricks, the one that the ball overlaps most
  hit.column = at_wall ? 0 : (int32_t)(dx > 0.0f ? line : line - 1.0f);
  for (int32_t r = 0; r < BREAKOUT_ROWS; r++) {
    float top = BREAKOUT_WALL_TOP + BREAKOUT_BRICK_HEIGHT * (float)r;
    float bottom = top + BREAKOUT_BRICK_HEIGHT;
    float low = hit.y + BREAKOUT_BALL < bottom ? hit.y + BREAKOUT_BALL : bottom;
    float high = hit.y > top ? hit.y : top;
    int32_t present = !((s->gone[r] >> hit.column) & 1u);
    if (present && low - high > hit.overlap) {
      hit.overlap = low - high;
      hit.row = r;
    }
  }
  hit.what = at_wall ? BREAKOUT_WALL : hit.overlap > 0.0f ? BREAKOUT_BRICK : BREAKOUT_NOTHING;
  return hit;
}


// what the ball may hit above or below: the row whose edge it crosses, the ceiling, the paddle
static inline breakout_hit breakout_face_hit(const breakout_state *s, float dx, float dy) {
  breakout_hit hit = {BREAKOUT_NOTHING, 0.0f, 0.0f, 0.0f, 0.0f, -1, 0};
  float y = s->ball_y;
  hit.y = dy < 0.0f ? 0.0f : BREAKOUT_PADDLE_Y - BREAKOUT_BALL;
  for (int32_t r = 0; r < BREAKOUT_ROWS; r++) {
    float top = BREAKOUT_WALL_TOP + BREAKOUT_BRICK_HEIGHT * (float)r;
    float stop = dy < 0.0f ? top + BREAKOUT_BRICK_HEIGHT : top - BREAKOUT_BALL;
    int32_t crossed = dy < 0.0f ? y >= stop && y + dy <= stop : y <= stop && y + dy >= stop;
    if (crossed) {
      hit.row = r;
      hit.y = stop;
    }
  }
  hit.time = (hit.y - y) / dy;
  hit.x = s->ball_x + dx * hit.time;

  // the ball touches two columns of that row: does it hit the one it overlaps more, or the other?
  float left = num_floor(hit.x * BREAKOUT_PER_BRICK_WIDTH);
  left = num_clip(left, 0.0f, (float)(BREAKOUT_COLUMNS - 1));
  int32_t left_column = (int32_t)left;
  float right_overlap = hit.x - left * BREAKOUT_BRICK_WIDTH;
  float left_overlap = BREAKOUT_BRICK_WIDTH - right_overlap;
  uint32_t row_gone = 0;
  for (int32_t r = 0; r < BREAKOUT_ROWS; r++)
    if (r == hit.row) row_gone = s->gone[r];
  row_gone = row_gone | (1u << BREAKOUT_COLUMNS);  // nothing stands beyond the last column
  int32_t left_present = !((row_gone >> left_column) & 1u);
  int32_t right_present = !((row_gone >> (left_column + 1)) & 1u) && right_overlap > 0.0f;
  int32_t take_right = right_present && (!left_present || right_overlap > left_overlap);
  hit.column = take_right ? left_column + 1 : left_column;
  hit.overlap = take_right ? right_overlap : left_overlap;

  // if it crosses no row, the ceiling or the paddle
  int32_t no_row = hit.row < 0;
  int32_t in_frame = hit.time >= 0.0f && hit.time <= 1.0f;
  int32_t on_paddle = hit.x + BREAKOUT_BALL > s->paddle_x && hit.x < s->paddle_x + s->paddle_width;
  if (!no_row && (left_present || right_present)) hit.what = BREAKOUT_BRICK;
  if (no_row && in_frame && dy < 0.0f) hit.what = BREAKOUT_CEILING;
  if (no_row && in_frame && dy > 0.0f && on_paddle) hit.what = BREAKOUT_PADDLE;
  return hit;
}


// a brick breaks; returns its points
static inline int32_t breakout_break_brick(const breakout_params *p, breakout_state *s, int32_t row, int32_t column) {
  s->gone[row] |= 1u << column;
  if (row < BREAKOUT_FAST_ROWS) s->ball_speed = p->max_ball_speed;
  return row < 2 ? 7 : row < 4 ? 4 : 1;
}


// the paddle sends the ball back at an angle by where it was hit, refills a cleared wall, and sometimes speeds up
static inline void breakout_bounce(const breakout_params *p, breakout_state *s) {
  s->paddle_hits++;
  if (s->paddle_hits % BREAKOUT_HITS_PER_SPEED_UP == 0) {
    float faster = s->ball_speed + p->speed_step;
    s->ball_speed = faster > p->max_ball_speed ? p->max_ball_speed : faster;
  }
  float place = num_clip((s->ball_x + 0.5f * BREAKOUT_BALL - s->paddle_x) / s->paddle_width, 0.0f, 1.0f);
  float angle = place * BREAKOUT_BOUNCE_ARC - BREAKOUT_BOUNCE_EDGE;
  s->ball_vx = num_sin(angle) * s->ball_speed;
  s->ball_vy = -(num_cos(angle) * s->ball_speed);
  if (s->points == BREAKOUT_WALL_POINTS)
    for (int32_t r = 0; r < BREAKOUT_ROWS; r++) s->gone[r] = 0;
}


// one frame: the paddle moves, then the ball, up to the first thing it hits; returns the points won
static inline int32_t breakout_frame(const breakout_params *p, breakout_state *s, int32_t action) {
  breakout_move_paddle(p, s, action);

  // the earlier hit counts; at the same time, the one with more overlap
  float dx = s->ball_vx * BREAKOUT_FRAME_SECONDS, dy = s->ball_vy * BREAKOUT_FRAME_SECONDS;
  breakout_hit side = breakout_side_hit(s, dx, dy);
  breakout_hit face = breakout_face_hit(s, dx, dy);
  int32_t sooner = side.time < face.time || (side.time == face.time && side.overlap > face.overlap);
  int32_t side_first = side.what != BREAKOUT_NOTHING && (face.what == BREAKOUT_NOTHING || sooner);
  breakout_hit hit = side_first ? side : face;

  // move, and reverse the velocity
  int32_t free = hit.what == BREAKOUT_NOTHING;
  s->ball_x = free ? s->ball_x + dx : hit.x;
  s->ball_y = free ? s->ball_y + dy : hit.y;
  if (side_first) s->ball_vx = -s->ball_vx;
  if (!side_first && !free) s->ball_vy = -s->ball_vy;

  int32_t points = 0;
  if (hit.what == BREAKOUT_BRICK) points = breakout_break_brick(p, s, hit.row, hit.column);
  s->points += points;
  if (hit.what == BREAKOUT_CEILING) s->paddle_width = 0.5f * p->paddle_width;
  if (hit.what == BREAKOUT_PADDLE) breakout_bounce(p, s);

  // a ball below the field is lost
  if (s->ball_y > BREAKOUT_HEIGHT) {
    s->balls--;
    breakout_serve(p, s);
  }
  return points;
}


static inline void breakout_transition(const breakout_params *p, breakout_state *s, const int32_t *action,
                                       outcome *out) {
  int32_t points = 0;
  for (int32_t frame = 0; frame < p->frame_skip; frame++) {
    int32_t over = s->balls <= 0 || s->points >= BREAKOUT_MAX_POINTS;
    if (!over) points += breakout_frame(p, s, *action);
  }
  s->steps++;

  out->reward = (float)points;
  out->terminated = s->balls <= 0 || s->points >= BREAKOUT_MAX_POINTS;
  out->truncated = s->steps >= p->max_steps;
}


static inline void breakout_observe(const breakout_params *p, const breakout_state *s, float *obs) {
  float per_ball = 1.0f / (float)p->balls;
  obs[0] = s->paddle_x * BREAKOUT_PER_WIDTH;
  obs[1] = BREAKOUT_PADDLE_Y * BREAKOUT_PER_HEIGHT;
  obs[2] = s->ball_x * BREAKOUT_PER_WIDTH;
  obs[3] = s->ball_y * BREAKOUT_PER_HEIGHT;
  obs[4] = s->ball_vx * BREAKOUT_PER_SPEED;
  obs[5] = s->ball_vy * BREAKOUT_PER_SPEED;
  obs[6] = (float)s->served * per_ball;
  obs[7] = (float)s->points * BREAKOUT_PER_POINT;
  obs[8] = (float)s->balls * per_ball;
  obs[9] = s->paddle_width * BREAKOUT_PER_PADDLE;
  float *flags = obs + 10;
  for (int32_t r = 0; r < BREAKOUT_ROWS; r++)
    for (int32_t c = 0; c < BREAKOUT_COLUMNS; c++)
      flags[r * BREAKOUT_COLUMNS + c] = (float)(int32_t)((s->gone[r] >> c) & 1u);
}


static inline float breakout_score(const breakout_params *p, const breakout_state *s) {
  (void)p;
  return (float)s->points;
}


static inline float breakout_perf(const breakout_params *p, const breakout_state *s) {
  (void)p;
  return (float)s->points * BREAKOUT_PER_POINT;
}
