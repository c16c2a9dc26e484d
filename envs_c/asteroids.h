// asteroids.h: a ship among asteroids, in a field without edges. Twin of envs_jax/asteroids.py.
//
// observation  rocks float32 (20, 7), numbers float32 (7,): the nearest asteroids, the nearest first, as seen from the
//              ship: how far ahead and to the right, distance, velocity ahead and to the right relative to the ship,
//              radius, 1; all 0 where there is none. The ship's velocity ahead and to the right, sine and cosine of its
//              heading, share of the reload left, share of the bullets in flight, share of the time left
// action       three choices   0 turn left, 1 straight, 2 turn right; 1 thrust; 1 shoot
// reward       1 for each asteroid hit, -1 when the ship is hit
// ends         terminated when the ship is hit, truncated after max_steps
#pragma once

#include "env.h"

enum { ASTEROIDS_LEFT, ASTEROIDS_STRAIGHT, ASTEROIDS_RIGHT };

enum {
  ASTEROIDS_CHOICES = 3,       // of an action: turn, thrust, shoot
  ASTEROIDS_HEADINGS = 64,     // of a whole turn
  ASTEROIDS_QUARTER = 16,      // of them
  ASTEROIDS_BULLETS = 4,       // in flight at once
  ASTEROIDS_FAMILY = 4,        // small asteroids that a large one is made of
  ASTEROIDS_MAX_FAMILIES = 8,
  ASTEROIDS_MAX_ROCKS = ASTEROIDS_MAX_FAMILIES * ASTEROIDS_FAMILY,
  ASTEROIDS_SEEN = 20,         // asteroids
  ASTEROIDS_FEATURES = 7,      // of each
  ASTEROIDS_NUMBERS = 7,
  ASTEROIDS_RADIUS = 10,       // px, for each small one that an asteroid is made of: 10, 20, 40
  ASTEROIDS_SHIP = 12,         // px, radius
  ASTEROIDS_COARSE = 20,       // bits left out where distances are compared: they are in 1/4096 of the side
  ASTEROIDS_SIDEWAYS = 4,      // random bits of a piece's velocity
};

// places are in 2^-32 of the field's side of 500 px, so that they wrap round by themselves; velocities are in the
// same units per frame
#define ASTEROIDS_PX 8589934.592f            // units of a px
#define ASTEROIDS_PER_SPEED 1.49011612e-8f   // sixty-fourths of the side per frame, per unit: 2^-26
#define ASTEROIDS_PER_SIZE 0.25f             // of a large one: 1 / 4
#define ASTEROIDS_PER_BULLET 0.25f           // 1 / 4
#define ASTEROIDS_PER_COARSE 4.8828125e-4f   // halves of the side per coarse unit: 2^-11
#define ASTEROIDS_COARSE_PX 8.192f           // coarse units of a px
#define ASTEROIDS_THRUST 5153960.8f          // 0.6 px per frame, added in a frame
#define ASTEROIDS_FRICTION 0.95f             // share of the velocity that is left after a frame
#define ASTEROIDS_MUZZLE 171798692.0f        // 20 px, from the ship's middle to where bullets start
#define ASTEROIDS_BULLET_SPEED 60129542.0f   // 7 px per frame
#define ASTEROIDS_PER_GOOD 0.01f             // 1 / 100 asteroids hit, a good number

// sine of the headings, one and a quarter turns; the cosine is a quarter further
static const float asteroids_sine[ASTEROIDS_HEADINGS + ASTEROIDS_QUARTER] = {
  0.0f, 0.09801714f, 0.195090322f, 0.290284677f, 0.382683432f, 0.471396737f, 0.555570233f, 0.634393284f,
  0.707106781f, 0.773010453f, 0.831469612f, 0.881921264f, 0.923879533f, 0.956940336f, 0.98078528f, 0.995184727f,
  1.0f, 0.995184727f, 0.98078528f, 0.956940336f, 0.923879533f, 0.881921264f, 0.831469612f, 0.773010453f,
  0.707106781f, 0.634393284f, 0.555570233f, 0.471396737f, 0.382683432f, 0.290284677f, 0.195090322f, 0.09801714f,
  0.0f, -0.09801714f, -0.195090322f, -0.290284677f, -0.382683432f, -0.471396737f, -0.555570233f, -0.634393284f,
  -0.707106781f, -0.773010453f, -0.831469612f, -0.881921264f, -0.923879533f, -0.956940336f, -0.98078528f, -0.995184727f,
  -1.0f, -0.995184727f, -0.98078528f, -0.956940336f, -0.923879533f, -0.881921264f, -0.831469612f, -0.773010453f,
  -0.707106781f, -0.634393284f, -0.555570233f, -0.471396737f, -0.382683432f, -0.290284677f, -0.195090322f, -0.09801714f,
  0.0f, 0.09801714f, 0.195090322f, 0.290284677f, 0.382683432f, 0.471396737f, 0.555570233f, 0.634393284f,
  0.707106781f, 0.773010453f, 0.831469612f, 0.881921264f, 0.923879533f, 0.956940336f, 0.98078528f, 0.995184727f,
};

typedef struct {
  int32_t frame_skip;   // frames of a step
  int32_t families;     // large asteroids, whole or in pieces, that there can be at once
  float rock_speed;     // px per frame, of a large asteroid
  int32_t spawn_steps;  // steps from one moment at which a large asteroid can come in to the next
  int32_t reload;       // frames from one shot to the next
  int32_t bullet_life;  // frames
  int32_t max_steps;    // steps before truncation
  int32_t levels;       // number of fixed starts, of which each episode has one; 0: new ones
  int32_t first_level;  // number of the first of them
} asteroids_params;

typedef struct {
  uint32_t rng[2];
  uint32_t x;       // of the ship, from the left
  uint32_t y;       // from the top
  int32_t vx;
  int32_t vy;
  int32_t heading;  // 0 up, clockwise
  int32_t reload;   // frames until it can shoot
  uint32_t bullet_x[ASTEROIDS_BULLETS];
  uint32_t bullet_y[ASTEROIDS_BULLETS];
  int32_t bullet_vx[ASTEROIDS_BULLETS];
  int32_t bullet_vy[ASTEROIDS_BULLETS];
  int32_t bullet_life[ASTEROIDS_BULLETS];  // frames left, 0: there is none
  uint32_t rock_x[ASTEROIDS_MAX_ROCKS];    // of small ones, four in a row for each family. What hangs together
  uint32_t rock_y[ASTEROIDS_MAX_ROCKS];    // has the same place, velocity and size
  int32_t rock_vx[ASTEROIDS_MAX_ROCKS];
  int32_t rock_vy[ASTEROIDS_MAX_ROCKS];
  int32_t rock_size[ASTEROIDS_MAX_ROCKS];  // small ones that hang together: 4, 2 or 1, 0 if it is gone
  int32_t hits;
  int32_t steps;    // since the episode began
} asteroids_state;

typedef struct {
  float rocks[ASTEROIDS_SEEN * ASTEROIDS_FEATURES];
  float numbers[ASTEROIDS_NUMBERS];
} asteroids_obs;


static inline int32_t asteroids_rocks(const asteroids_params *p) { return p->families * ASTEROIDS_FAMILY; }


// direction of a heading: x to the right, y downwards
static inline float asteroids_direction_x(int32_t heading) { return asteroids_sine[heading]; }


static inline float asteroids_direction_y(int32_t heading) { return -asteroids_sine[heading + ASTEROIDS_QUARTER]; }


// how far it is from b to a, the shorter way round, in coarse units: a whole number
static inline float asteroids_offset(uint32_t a, uint32_t b) { return (float)((int32_t)(a - b) >> ASTEROIDS_COARSE); }


// the squared distance of two places: a whole number too
static inline float asteroids_apart(uint32_t ax, uint32_t ay, uint32_t bx, uint32_t by) {
  float dx = asteroids_offset(ax, bx), dy = asteroids_offset(ay, by);
  return dx * dx + dy * dy;
}


// the squared distance at which a thing of this radius, in px, is touched
static inline float asteroids_reach(int32_t radius) {
  float reach = (float)radius * ASTEROIDS_COARSE_PX;
  return reach * reach;
}


// is a small one the first of an asteroid, for which it then stands?
static inline int32_t asteroids_leads(const asteroids_state *s, int32_t i) {
  return s->rock_size[i] > 0 && (i & (s->rock_size[i] - 1)) == 0;
}


// a large asteroid on the edge of the square field that has the ship in its middle; 23 random bits say where, and
// where it goes
static inline void asteroids_come_in(const asteroids_params *p, asteroids_state *s, int32_t family, uint32_t bits) {
  int32_t heading = (int32_t)(bits & (ASTEROIDS_HEADINGS - 1));
  uint32_t half = 1u << 31, along = bits & 0xFFFF0000u, vertical = (bits >> 6) & 1u;
  float speed = p->rock_speed * ASTEROIDS_PX;
  for (int32_t i = family * ASTEROIDS_FAMILY; i < (family + 1) * ASTEROIDS_FAMILY; i++) {
    s->rock_x[i] = s->x + (vertical ? half : along);
    s->rock_y[i] = s->y + (vertical ? along : half);
    s->rock_vx[i] = (int32_t)(asteroids_direction_x(heading) * speed);
    s->rock_vy[i] = (int32_t)(asteroids_direction_y(heading) * speed);
    s->rock_size[i] = ASTEROIDS_FAMILY;
  }
}


static inline void asteroids_init(const asteroids_params *p, asteroids_state *s) {
  // the ship at rest in the middle
  uint32_t world[2], key[2], stream[2] = {s->rng[0], s->rng[1]};
  rng_level(stream, p->levels, p->first_level, world);
  memset(s, 0, sizeof *s);
  s->rng[0] = stream[0];
  s->rng[1] = stream[1];
  s->x = s->y = 1u << 31;

  // large asteroids around it
  rng_key(world, key);
  for (int32_t f = 0; f < p->families; f++) asteroids_come_in(p, s, f, rng_at(key, f));
}


// at fixed times a large asteroid comes in, if a family is gone
static inline void asteroids_spawn(const asteroids_params *p, asteroids_state *s) {
  if (s->steps % p->spawn_steps != 0) return;
  for (int32_t f = 0; f < p->families; f++) {
    const int32_t *size = &s->rock_size[f * ASTEROIDS_FAMILY];
    if ((size[0] | size[1] | size[2] | size[3]) != 0) continue;
    asteroids_come_in(p, s, f, rng_bits(s->rng));
    break;
  }
}


// the ship turns, slows down, is pushed, shoots, and moves
static inline void asteroids_fly(const asteroids_params *p, asteroids_state *s, const int32_t *action) {
  s->heading = (s->heading + action[0] - ASTEROIDS_STRAIGHT) & (ASTEROIDS_HEADINGS - 1);
  float ahead_x = asteroids_direction_x(s->heading), ahead_y = asteroids_direction_y(s->heading);
  s->vx = (int32_t)((float)s->vx * ASTEROIDS_FRICTION);
  s->vy = (int32_t)((float)s->vy * ASTEROIDS_FRICTION);
  if (action[1]) {
    s->vx += (int32_t)(ahead_x * ASTEROIDS_THRUST);
    s->vy += (int32_t)(ahead_y * ASTEROIDS_THRUST);
  }

  // with the first bullet that is not in flight
  if (s->reload > 0) s->reload--;
  for (int32_t b = 0; b < ASTEROIDS_BULLETS && action[2] && s->reload == 0; b++) {
    if (s->bullet_life[b] > 0) continue;
    s->bullet_x[b] = s->x + (uint32_t)(int32_t)(ahead_x * ASTEROIDS_MUZZLE);
    s->bullet_y[b] = s->y + (uint32_t)(int32_t)(ahead_y * ASTEROIDS_MUZZLE);
    s->bullet_vx[b] = (int32_t)(ahead_x * ASTEROIDS_BULLET_SPEED);
    s->bullet_vy[b] = (int32_t)(ahead_y * ASTEROIDS_BULLET_SPEED);
    s->bullet_life[b] = p->bullet_life;
    s->reload = p->reload;
  }
  s->x += (uint32_t)s->vx;
  s->y += (uint32_t)s->vy;
}


// bullets and asteroids move on
static inline void asteroids_drift(const asteroids_params *p, asteroids_state *s) {
  for (int32_t b = 0; b < ASTEROIDS_BULLETS; b++) {
    s->bullet_x[b] += (uint32_t)s->bullet_vx[b];
    s->bullet_y[b] += (uint32_t)s->bullet_vy[b];
  }
  for (int32_t i = 0; i < asteroids_rocks(p); i++) {
    s->rock_x[i] += (uint32_t)s->rock_vx[i];
    s->rock_y[i] += (uint32_t)s->rock_vy[i];
  }
}


// one bullet after the other hits the first asteroid that it touches and that no other has hit in this frame: flags of
// the small ones
static inline void asteroids_strike(const asteroids_params *p, asteroids_state *s, uint8_t *hit) {
  float reach[ASTEROIDS_MAX_ROCKS];
  int32_t rocks = asteroids_rocks(p);
  for (int32_t i = 0; i < rocks; i++) reach[i] = asteroids_reach(ASTEROIDS_RADIUS * s->rock_size[i]);
  for (int32_t b = 0; b < ASTEROIDS_BULLETS; b++) {
    if (s->bullet_life[b] == 0) continue;
    s->bullet_life[b]--;
    uint32_t x = s->bullet_x[b], y = s->bullet_y[b];
    int32_t touches = 0, i = 0;  // mostly it touches none
    for (int32_t k = 0; k < rocks; k++) touches |= asteroids_apart(x, y, s->rock_x[k], s->rock_y[k]) < reach[k];
    if (!touches) continue;
    while (i < rocks && (hit[i] || asteroids_apart(x, y, s->rock_x[i], s->rock_y[i]) >= reach[i])) i++;
    if (i == rocks) continue;
    memset(hit + i, 1, (size_t)s->rock_size[i]);
    s->bullet_life[b] = 0;
    s->hits++;
  }
}


// what is hit falls into halves, of which each flies on with up to as much again to a side; a small one is gone
static inline void asteroids_split(const asteroids_params *p, asteroids_state *s, const uint8_t *hit) {
  uint32_t bits = rng_bits(s->rng);
  for (int32_t i = 0; i < asteroids_rocks(p); i++) {
    if (!hit[i]) continue;
    int32_t half = s->rock_size[i] / 2, place = i % ASTEROIDS_FAMILY, vx = s->rock_vx[i], vy = s->rock_vy[i];
    uint32_t own = bits >> (ASTEROIDS_SIDEWAYS * (half == 2 ? place & 2 : place));
    int32_t sideways = 2 * (int32_t)(own & 15u) - 15;
    s->rock_vx[i] = vx - (vy >> ASTEROIDS_SIDEWAYS) * sideways;
    s->rock_vy[i] = vy + (vx >> ASTEROIDS_SIDEWAYS) * sideways;
    s->rock_size[i] = half;
  }
}


// does an asteroid touch the ship?
static inline int32_t asteroids_crash(const asteroids_params *p, const asteroids_state *s) {
  int32_t crash = 0;
  for (int32_t i = 0; i < asteroids_rocks(p); i++) {
    float reach = asteroids_reach(ASTEROIDS_RADIUS * s->rock_size[i] + ASTEROIDS_SHIP);
    crash |= (s->rock_size[i] > 0) & (asteroids_apart(s->rock_x[i], s->rock_y[i], s->x, s->y) < reach);
  }
  return crash;
}


static inline void asteroids_transition(const asteroids_params *p, asteroids_state *s, const int32_t *action,
                                        outcome *out) {
  int32_t before = s->hits, crash = 0;
  asteroids_spawn(p, s);
  for (int32_t frame = 0; frame < p->frame_skip; frame++) {
    asteroids_fly(p, s, action);
    asteroids_drift(p, s);
    uint8_t hit[ASTEROIDS_MAX_ROCKS] = {0};
    int32_t hits = s->hits;
    asteroids_strike(p, s, hit);
    if (s->hits > hits) asteroids_split(p, s, hit);
    crash |= asteroids_crash(p, s);
  }
  s->steps++;

  out->reward = (float)(s->hits - before - crash);
  out->terminated = crash;
  out->truncated = s->steps >= p->max_steps;
}


static inline void asteroids_observe(const asteroids_params *p, const asteroids_state *s, asteroids_obs *obs) {
  float ahead_x = asteroids_direction_x(s->heading), ahead_y = asteroids_direction_y(s->heading);

  // squared distances, the number of the asteroid in the last bits: the nearest first, at equal distances the first
  int32_t order[ASTEROIDS_MAX_ROCKS], present = 0;
  for (int32_t i = 0; i < asteroids_rocks(p); i++) {
    if (!asteroids_leads(s, i)) continue;
    int32_t apart = (int32_t)asteroids_apart(s->rock_x[i], s->rock_y[i], s->x, s->y);
    int32_t key = apart * ASTEROIDS_MAX_ROCKS + i, k = present++;
    for (; k > 0 && order[k - 1] > key; k--) order[k] = order[k - 1];
    order[k] = key;
  }

  float *rock = obs->rocks;
  for (int32_t k = 0; k < present && k < ASTEROIDS_SEEN; k++, rock += ASTEROIDS_FEATURES) {
    int32_t i = order[k] % ASTEROIDS_MAX_ROCKS;
    float distance = num_sqrt((float)(order[k] / ASTEROIDS_MAX_ROCKS)), length = distance > 0.0f ? distance : 1.0f;
    float ux = asteroids_offset(s->rock_x[i], s->x) / length, uy = asteroids_offset(s->rock_y[i], s->y) / length;
    float vx = (float)(s->rock_vx[i] - s->vx) * ASTEROIDS_PER_SPEED;
    float vy = (float)(s->rock_vy[i] - s->vy) * ASTEROIDS_PER_SPEED;
    rock[0] = ux * ahead_x + uy * ahead_y;
    rock[1] = uy * ahead_x - ux * ahead_y;
    rock[2] = distance * ASTEROIDS_PER_COARSE;
    rock[3] = vx * ux + vy * uy;
    rock[4] = vy * ux - vx * uy;
    rock[5] = (float)s->rock_size[i] * ASTEROIDS_PER_SIZE;
    rock[6] = 1.0f;
  }

  int32_t in_flight = 0;
  for (int32_t b = 0; b < ASTEROIDS_BULLETS; b++) in_flight += s->bullet_life[b] > 0;
  float vx = (float)s->vx * ASTEROIDS_PER_SPEED, vy = (float)s->vy * ASTEROIDS_PER_SPEED;
  obs->numbers[0] = vx * ahead_x + vy * ahead_y;
  obs->numbers[1] = vy * ahead_x - vx * ahead_y;
  obs->numbers[2] = asteroids_sine[s->heading];
  obs->numbers[3] = asteroids_sine[s->heading + ASTEROIDS_QUARTER];
  obs->numbers[4] = (float)s->reload * (1.0f / (float)p->reload);
  obs->numbers[5] = (float)in_flight * ASTEROIDS_PER_BULLET;
  obs->numbers[6] = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
}


static inline float asteroids_score(const asteroids_params *p, const asteroids_state *s) {
  (void)p;
  return (float)s->hits;
}


static inline float asteroids_perf(const asteroids_params *p, const asteroids_state *s) {
  (void)p;
  float share = (float)s->hits * ASTEROIDS_PER_GOOD;
  return share < 1.0f ? share : 1.0f;
}
