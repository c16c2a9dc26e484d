// convert.h: agents carry an item to the next factory that takes it, and go on with what it makes. Twin of
// envs_jax/convert.py.
//
// observation  float32 (17,) per agent: of the two nearest factories that take its item the offset, the velocity and
//              the way from there to the nearest factory for the next item, all in the agent's own directions; its
//              speed, its heading and its place
// action       two choices   0 to 8 turn by -4 to 4 twelfths of a radian, 0 to 4 change the speed by -2 to 2
//              px per step
// reward       1 for each item converted
// ends         the world is reset after max_steps, which truncates all
#pragma once

#include "env.h"

enum { CONVERT_MAX_AGENTS = 1024, CONVERT_MAX_FACTORIES = 64, CONVERT_CHOICES = 2 };
enum { CONVERT_STRAIGHT = 4, CONVERT_STEADY = 2 };
enum { CONVERT_PLACED = 3 };      // draws for a factory's start
enum { CONVERT_JUMP_SHIFT = 22 };  // leaves ten bits of a draw: the number of the agent that jumps

#define CONVERT_LEFT 16.0f               // px: the borders
#define CONVERT_RIGHT 1904.0f
#define CONVERT_TOP 16.0f
#define CONVERT_BOTTOM 1064.0f
#define CONVERT_ACROSS 1888.0f           // px from the left border to the right one
#define CONVERT_DOWN 1048.0f             // px from the top to the bottom
#define CONVERT_REACH_SQUARED 1024.0f    // px^2: a factory takes items within 32 px
#define CONVERT_TURNING 0.083333336f     // rad per choice: 1/12
#define CONVERT_MAX_SPEED 20.0f          // px per step, forwards or backwards
#define CONVERT_HALF_TURN 3.14159265f    // rad
#define CONVERT_TURN 6.2831853f          // rad
#define CONVERT_PER_OFFSET 0.0025f       // 1/px, of observed offsets: 1/400
#define CONVERT_PER_VELOCITY 0.5f        // steps per px, of observed velocities of factories
#define CONVERT_PER_MAX_SPEED 0.05f      // steps per px, of the observed speed
#define CONVERT_PER_WIDTH 5.2083333e-4f  // 1/px, of the observed place: 1/1920
#define CONVERT_GOOD_SHARE 0.0625f       // of the steps: this number of items is a perf of 1

typedef struct {
  int32_t agents;
  int32_t items;         // kinds of items, in a cycle
  int32_t factories;     // for each item
  float factory_speed;   // px per step
  int32_t max_steps;     // steps of the world before it is reset
  int32_t levels;        // number of fixed worlds, of which each is one; 0: new ones
  int32_t first_level;   // number of the first of them
} convert_params;

typedef struct {
  uint32_t rng[2];
  float x[CONVERT_MAX_AGENTS];              // px from the left
  float y[CONVERT_MAX_AGENTS];              // px from the top
  float heading[CONVERT_MAX_AGENTS];        // rad, 0 to the right, positive downwards
  float speed[CONVERT_MAX_AGENTS];          // px per step
  int32_t item[CONVERT_MAX_AGENTS];         // that it carries
  int32_t converted[CONVERT_MAX_AGENTS];    // items since the world began
  float factory_x[CONVERT_MAX_FACTORIES];   // one for each item, then the second one for each ...
  float factory_y[CONVERT_MAX_FACTORIES];
  float factory_vx[CONVERT_MAX_FACTORIES];  // px per step
  float factory_vy[CONVERT_MAX_FACTORIES];
  int32_t steps;                            // since the world began
} convert_state;


// random bits as a place between the borders
static inline float convert_across(uint32_t bits) { return CONVERT_LEFT + rng_unit(bits) * CONVERT_ACROSS; }


static inline float convert_down(uint32_t bits) { return CONVERT_TOP + rng_unit(bits) * CONVERT_DOWN; }


// random bits as a direction
static inline float convert_direction(uint32_t bits) { return rng_unit(bits) * CONVERT_TURN - CONVERT_HALF_TURN; }


static inline void convert_init(const convert_params *p, convert_state *s) {
  uint32_t world[2], key[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  rng_key(world, key);

  // factories, each with its own direction
  int32_t all = p->items * p->factories;
  for (int32_t f = 0; f < all; f++) {
    float sine, cosine;
    num_sin_cos(convert_direction(rng_at(key, 2 * all + f)), &sine, &cosine);
    s->factory_x[f] = convert_across(rng_at(key, f));
    s->factory_y[f] = convert_down(rng_at(key, all + f));
    s->factory_vx[f] = p->factory_speed * cosine;
    s->factory_vy[f] = p->factory_speed * sine;
  }

  // agents, at rest, each with some item
  int32_t first = CONVERT_PLACED * all;
  for (int32_t i = 0; i < p->agents; i++) {
    s->x[i] = convert_across(rng_at(key, first + i));
    s->y[i] = convert_down(rng_at(key, first + p->agents + i));
    s->heading[i] = convert_direction(rng_at(key, first + 2 * p->agents + i));
    s->speed[i] = 0.0f;
    s->item[i] = (int32_t)(rng_at(key, first + 3 * p->agents + i) % (uint32_t)p->items);
    s->converted[i] = 0;
  }
  s->steps = 0;
}


static inline void convert_transition(const convert_params *p, convert_state *s, const int32_t *action, outcome *out,
                                      int32_t *reset) {
  s->steps++;
  *reset = s->steps >= p->max_steps;
  int32_t all = p->items * p->factories;
  uint32_t key[2];
  rng_key(s->rng, key);

  // all turn, speed up and move, within the borders
  float sine[CONVERT_MAX_AGENTS], cosine[CONVERT_MAX_AGENTS];
  for (int32_t i = 0; i < p->agents; i++) {
    float heading = s->heading[i] + (float)(action[CONVERT_CHOICES * i] - CONVERT_STRAIGHT) * CONVERT_TURNING;
    float excess = heading > CONVERT_HALF_TURN ? CONVERT_TURN : heading < -CONVERT_HALF_TURN ? -CONVERT_TURN : 0.0f;
    s->heading[i] = heading - excess;
    float faster = (float)(action[CONVERT_CHOICES * i + 1] - CONVERT_STEADY);
    s->speed[i] = num_clip(s->speed[i] + faster, -CONVERT_MAX_SPEED, CONVERT_MAX_SPEED);
  }
  for (int32_t i = 0; i < p->agents; i++) num_sin_cos(s->heading[i], &sine[i], &cosine[i]);
  for (int32_t i = 0; i < p->agents; i++) {
    s->x[i] = num_clip(s->x[i] + s->speed[i] * cosine[i], CONVERT_LEFT, CONVERT_RIGHT);
    s->y[i] = num_clip(s->y[i] + s->speed[i] * sine[i], CONVERT_TOP, CONVERT_BOTTOM);
  }

  // one agent jumps to a random place, if there is one with the number drawn
  int32_t jumper = (int32_t)(rng_at(key, 0) >> CONVERT_JUMP_SHIFT);
  if (jumper < p->agents) {
    s->x[jumper] = convert_across(rng_at(key, 1));
    s->y[jumper] = convert_down(rng_at(key, 2));
  }

  // a factory within reach that takes the item gives the next one for it
  for (int32_t i = 0; i < p->agents; i++) {
    int32_t taken = 0;
    for (int32_t f = s->item[i]; f < all; f += p->items) {
      float dx = s->factory_x[f] - s->x[i], dy = s->factory_y[f] - s->y[i];
      taken |= dx * dx + dy * dy <= CONVERT_REACH_SQUARED;
    }
    int32_t item = s->item[i] + taken;
    s->item[i] = item == p->items ? 0 : item;
    s->converted[i] += taken;
    out[i].reward = (float)taken;
    out[i].terminated = 0;
    out[i].truncated = 0;
  }

  // factories move; at a border they take another direction
  for (int32_t f = 0; f < all; f++) {
    float x = s->factory_x[f] + s->factory_vx[f], y = s->factory_y[f] + s->factory_vy[f];
    s->factory_x[f] = num_clip(x, CONVERT_LEFT, CONVERT_RIGHT);
    s->factory_y[f] = num_clip(y, CONVERT_TOP, CONVERT_BOTTOM);
    if (s->factory_x[f] != x || s->factory_y[f] != y) {
      float turned_sine, turned_cosine;
      num_sin_cos(convert_direction(rng_at(key, CONVERT_PLACED + f)), &turned_sine, &turned_cosine);
      s->factory_vx[f] = p->factory_speed * turned_cosine;
      s->factory_vy[f] = p->factory_speed * turned_sine;
    }
  }
}


// agents end only with their world
static inline void convert_respawn(const convert_params *p, convert_state *s, const uint8_t *ended) {
  (void)p;
  (void)s;
  (void)ended;
}


static inline void convert_observe(const convert_params *p, const convert_state *s, float *restrict obs) {
  // from each factory to the nearest one for the next item
  float next_x[CONVERT_MAX_FACTORIES], next_y[CONVERT_MAX_FACTORIES], least[CONVERT_MAX_FACTORIES];
  float onward_x[CONVERT_MAX_FACTORIES], onward_y[CONVERT_MAX_FACTORIES];
  int32_t all = p->items * p->factories;
  for (int32_t f = 0; f < all; f++) {
    int32_t next = (f + 1) % p->items == 0 ? f + 1 - p->items : f + 1;
    next_x[f] = s->factory_x[next];
    next_y[f] = s->factory_y[next];
    least[f] = NUM_INFINITY;
    onward_x[f] = onward_y[f] = 0.0f;
  }
  for (int32_t from = 0; from < all; from += p->items) {
    for (int32_t to = 0; to < all; to += p->items) {
      for (int32_t item = 0; item < p->items; item++) {
        int32_t f = from + item;
        float dx = next_x[to + item] - s->factory_x[f], dy = next_y[to + item] - s->factory_y[f];
        float squared = dx * dx + dy * dy;
        int32_t nearer = squared < least[f];
        least[f] = nearer ? squared : least[f];
        onward_x[f] = nearer ? dx : onward_x[f];
        onward_y[f] = nearer ? dy : onward_y[f];
      }
    }
  }

  float sine[CONVERT_MAX_AGENTS], cosine[CONVERT_MAX_AGENTS];
  for (int32_t i = 0; i < p->agents; i++) num_sin_cos(s->heading[i], &sine[i], &cosine[i]);
  for (int32_t i = 0; i < p->agents; i++) {
    // the two nearest factories that take the item
    int32_t near[2] = {s->item[i], s->item[i]};
    float first = NUM_INFINITY, second = NUM_INFINITY;
    for (int32_t f = s->item[i]; f < all; f += p->items) {
      float dx = s->factory_x[f] - s->x[i], dy = s->factory_y[f] - s->y[i];
      float squared = dx * dx + dy * dy;
      int32_t nearest = squared < first, nearer = squared < second;
      near[1] = nearest ? near[0] : nearer ? f : near[1];
      second = nearest ? first : nearer ? squared : second;
      near[0] = nearest ? f : near[0];
      first = nearest ? squared : first;
    }

    // forwards and to the right
    for (int32_t k = 0; k < 2; k++) {
      int32_t f = near[k];
      float dx = s->factory_x[f] - s->x[i], dy = s->factory_y[f] - s->y[i];
      *obs++ = (dx * cosine[i] + dy * sine[i]) * CONVERT_PER_OFFSET;
      *obs++ = (dy * cosine[i] - dx * sine[i]) * CONVERT_PER_OFFSET;
      *obs++ = (s->factory_vx[f] * cosine[i] + s->factory_vy[f] * sine[i]) * CONVERT_PER_VELOCITY;
      *obs++ = (s->factory_vy[f] * cosine[i] - s->factory_vx[f] * sine[i]) * CONVERT_PER_VELOCITY;
      *obs++ = (onward_x[f] * cosine[i] + onward_y[f] * sine[i]) * CONVERT_PER_OFFSET;
      *obs++ = (onward_y[f] * cosine[i] - onward_x[f] * sine[i]) * CONVERT_PER_OFFSET;
    }
    *obs++ = s->speed[i] * CONVERT_PER_MAX_SPEED;
    *obs++ = cosine[i];
    *obs++ = sine[i];
    *obs++ = s->x[i] * CONVERT_PER_WIDTH;
    *obs++ = s->y[i] * CONVERT_PER_WIDTH;
  }
}


static inline void convert_score(const convert_params *p, const convert_state *s, float *score) {
  for (int32_t i = 0; i < p->agents; i++) score[i] = (float)s->converted[i];
}


static inline void convert_perf(const convert_params *p, const convert_state *s, float *perf) {
  float good = CONVERT_GOOD_SHARE * (float)p->max_steps;
  for (int32_t i = 0; i < p->agents; i++) {
    float share = (float)s->converted[i] * (1.0f / good);
    perf[i] = share < 1.0f ? share : 1.0f;
  }
}
