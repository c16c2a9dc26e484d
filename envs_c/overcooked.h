// overcooked.h: two cooks make onion soup together in a small kitchen. Twin of envs_jax/overcooked.py.
//
// observation  tiles int8 (height, width), held int8 (2,), numbers float32 (3,) per cook:
//              the whole kitchen with both cooks; what this cook and the other one hold; steps
//              until each of two pots is ready / cook_steps, and the share of the time left
// action       discrete   0 up, 1 down, 2 left, 3 right, 4 stay, 5 interact with the tile ahead
// reward       20 for both per delivered soup; shaping * (3 for an onion into a pot, 3 for a
//              useful dish, 5 for a soup taken) for the cook who does it
// ends         the world is reset after max_steps, which truncates both
#pragma once

#include "env.h"

enum { OVERCOOKED_UP, OVERCOOKED_DOWN, OVERCOOKED_LEFT, OVERCOOKED_RIGHT, OVERCOOKED_STAY, OVERCOOKED_INTERACT };

// what a cook holds, or a counter
enum { OVERCOOKED_NOTHING, OVERCOOKED_ONION, OVERCOOKED_DISH, OVERCOOKED_SOUP };

// a tile of the kitchen; where cooks stand is observed only
enum {
  OVERCOOKED_FLOOR,
  OVERCOOKED_COUNTER,     // + what is on it
  OVERCOOKED_ONIONS = 5,  // dispenser
  OVERCOOKED_DISHES,      // dispenser
  OVERCOOKED_SERVING,
  OVERCOOKED_POT,           // + onions in it, up to 2
  OVERCOOKED_COOKING = 11,  // with 3 onions
  OVERCOOKED_READY,
  OVERCOOKED_SELF,         // + facing
  OVERCOOKED_OTHER = 17,   // + facing
};

enum {
  OVERCOOKED_MAX_AGENTS = 2,
  OVERCOOKED_MAX_POTS = 2,
  OVERCOOKED_MAX_TILES = 48,  // 9 by 5, and whole words
  OVERCOOKED_DELIVERY_REWARD = 20,
  OVERCOOKED_ONION_POINTS = 3,  // points are rewards before `shaping`
  OVERCOOKED_DISH_POINTS = 3,
  OVERCOOKED_SOUP_POINTS = 5,
};

typedef struct {
  int32_t width, height;  // tiles
  int32_t pots;           // number of them
  int32_t pot[OVERCOOKED_MAX_POTS];  // their tiles
  int32_t good_soups;     // in 400 steps, a perf of 1
  const char *tiles;      // X counter, O onions, D dishes, P pot, S serving; 1 and 2: the cooks on the floor
} overcooked_layout;

// the five of Carroll et al. (2019)
static const overcooked_layout OVERCOOKED_LAYOUTS[] = {
  {5, 4, 1, {2, 0}, 12,  // cramped_room
    "XXPXX"
    "O  2O"
    "X1  X"
    "XDXSX"},
  {9, 5, 2, {22, 31}, 20,  // asymmetric_advantages
    "XXXXXXXXX"
    "O XSXOX S"
    "X   P 1 X"
    "X2  P   X"
    "XXXDXDXXX"},
  {5, 5, 2, {3, 9}, 12,  // coordination_ring
    "XXXPX"
    "X 1 P"
    "D2X X"
    "O   X"
    "XOSXX"},
  {5, 5, 2, {3, 9}, 14,  // forced_coordination
    "XXXPX"
    "O X1P"
    "O2X X"
    "D X X"
    "XXXSX"},
  {8, 5, 2, {3, 4}, 10,  // counter_circuit
    "XXXPPXXX"
    "X      X"
    "D XXXX S"
    "X2    1X"
    "XXXOOXXX"},
};

typedef struct {
  int32_t layout;      // number of the kitchen, in the order of the table
  int32_t cook_steps;  // steps from the third onion to the soup
  float shaping;       // weight of the points for steps towards a soup
  int32_t max_steps;   // steps of the world before it is reset
} overcooked_params;

typedef struct {
  uint32_t rng[2];
  int8_t tiles[OVERCOOKED_MAX_TILES];         // (height * width), row by row, without the cooks
  int32_t timer[OVERCOOKED_MAX_POTS];         // steps until the pot is ready, 0 if it does not cook
  int32_t position[OVERCOOKED_MAX_AGENTS];    // the tile that each cook is on
  int32_t facing[OVERCOOKED_MAX_AGENTS];      // the last direction it walked or turned
  int32_t held[OVERCOOKED_MAX_AGENTS];        // what it holds
  int32_t soups;                              // delivered
  int32_t steps;                              // since the world began
} overcooked_state;

typedef struct {
  int8_t tiles[OVERCOOKED_MAX_TILES];
  int8_t held[OVERCOOKED_MAX_AGENTS];
  float numbers[OVERCOOKED_MAX_POTS + 1];
} overcooked_obs;


static inline const overcooked_layout *overcooked_kitchen(const overcooked_params *p) {
  return &OVERCOOKED_LAYOUTS[p->layout];
}


// the tile next to a cook's, in a direction
static inline int32_t overcooked_ahead(const overcooked_params *p, int32_t position, int32_t facing) {
  int32_t along = facing <= OVERCOOKED_DOWN ? overcooked_kitchen(p)->width : 1;
  return facing == OVERCOOKED_DOWN || facing == OVERCOOKED_RIGHT ? position + along : position - along;
}


// are there more pots with something in them than dishes in hands, and no dish on a counter?
static inline int32_t overcooked_dish_is_useful(const overcooked_params *p, const overcooked_state *s) {
  const overcooked_layout *kitchen = overcooked_kitchen(p);
  int32_t useful = 0;
  for (int32_t k = 0; k < kitchen->pots; k++) useful += s->tiles[kitchen->pot[k]] > OVERCOOKED_POT;
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) useful -= s->held[a] == OVERCOOKED_DISH;
  for (int32_t i = 0; i < kitchen->width * kitchen->height; i++)
    if (s->tiles[i] == OVERCOOKED_COUNTER + OVERCOOKED_DISH) return 0;
  return useful > 0;
}


// a cook uses the tile ahead; returns its points
static inline int32_t overcooked_interact(const overcooked_params *p, overcooked_state *s, int32_t a, int32_t ahead) {
  int8_t *tile = &s->tiles[ahead];
  int32_t *held = &s->held[a];
  int32_t on_counter = *tile - OVERCOOKED_COUNTER;

  if (on_counter >= OVERCOOKED_NOTHING && on_counter <= OVERCOOKED_SOUP) {
    // a counter: put something down, or pick it up
    if ((on_counter == OVERCOOKED_NOTHING) != (*held == OVERCOOKED_NOTHING)) {
      *tile = (int8_t)(OVERCOOKED_COUNTER + *held);
      *held = on_counter;
    }
  } else if (*tile == OVERCOOKED_ONIONS && *held == OVERCOOKED_NOTHING) {
    // an onion from its dispenser
    *held = OVERCOOKED_ONION;
  } else if (*tile == OVERCOOKED_DISHES && *held == OVERCOOKED_NOTHING) {
    // a dish from its dispenser
    int32_t useful = overcooked_dish_is_useful(p, s);
    *held = OVERCOOKED_DISH;
    return useful ? OVERCOOKED_DISH_POINTS : 0;
  } else if (*tile >= OVERCOOKED_POT && *tile < OVERCOOKED_COOKING && *held == OVERCOOKED_ONION) {
    // an onion into a pot, which cooks with the third
    (*tile)++;
    *held = OVERCOOKED_NOTHING;
    return OVERCOOKED_ONION_POINTS;
  } else if (*tile == OVERCOOKED_READY && *held == OVERCOOKED_DISH) {
    // the soup from a pot
    *tile = OVERCOOKED_POT;
    *held = OVERCOOKED_SOUP;
    return OVERCOOKED_SOUP_POINTS;
  } else if (*tile == OVERCOOKED_SERVING && *held == OVERCOOKED_SOUP) {
    // a soup is delivered
    *held = OVERCOOKED_NOTHING;
    s->soups++;
  }
  return 0;
}


// pots with three onions cook
static inline void overcooked_cook(const overcooked_params *p, overcooked_state *s) {
  const overcooked_layout *kitchen = overcooked_kitchen(p);
  for (int32_t k = 0; k < kitchen->pots; k++) {
    int8_t *tile = &s->tiles[kitchen->pot[k]];
    if (*tile != OVERCOOKED_COOKING) continue;
    if (s->timer[k] == 0) s->timer[k] = p->cook_steps;  // its third onion has just come
    s->timer[k]--;
    if (s->timer[k] == 0) *tile = OVERCOOKED_READY;
  }
}


static inline void overcooked_init(const overcooked_params *p, overcooked_state *s) {
  // the kitchen, and the cooks in it, who face up
  const overcooked_layout *kitchen = overcooked_kitchen(p);
  memset(s->tiles, 0, sizeof s->tiles);
  for (int32_t i = 0; i < kitchen->width * kitchen->height; i++) {
    char drawn = kitchen->tiles[i];
    s->tiles[i] = drawn == 'X'   ? OVERCOOKED_COUNTER
                  : drawn == 'O' ? OVERCOOKED_ONIONS
                  : drawn == 'D' ? OVERCOOKED_DISHES
                  : drawn == 'S' ? OVERCOOKED_SERVING
                  : drawn == 'P' ? OVERCOOKED_POT
                                 : OVERCOOKED_FLOOR;
    if (drawn == '1') s->position[0] = i;
    if (drawn == '2') s->position[1] = i;
  }
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) {
    s->facing[a] = OVERCOOKED_UP;
    s->held[a] = OVERCOOKED_NOTHING;
  }
  for (int32_t k = 0; k < OVERCOOKED_MAX_POTS; k++) s->timer[k] = 0;
  s->soups = 0;
  s->steps = 0;
}


static inline void overcooked_transition(const overcooked_params *p, overcooked_state *s, const int32_t *action,
                                         outcome *out, int32_t *reset) {
  // both turn, and look at the tile ahead
  int32_t ahead[OVERCOOKED_MAX_AGENTS], target[OVERCOOKED_MAX_AGENTS], points[OVERCOOKED_MAX_AGENTS];
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) {
    if (action[a] < OVERCOOKED_STAY) s->facing[a] = action[a];
    ahead[a] = overcooked_ahead(p, s->position[a], s->facing[a]);
  }

  // one after the other interacts with it
  int32_t before = s->soups;
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++)
    points[a] = action[a] == OVERCOOKED_INTERACT ? overcooked_interact(p, s, a, ahead[a]) : 0;

  // or walks onto it, but neither does if they would meet or swap places
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) {
    int32_t walks = action[a] < OVERCOOKED_STAY && s->tiles[ahead[a]] == OVERCOOKED_FLOOR;
    target[a] = walks ? ahead[a] : s->position[a];
  }
  int32_t meet = target[0] == target[1];
  int32_t swap = target[0] == s->position[1] && target[1] == s->position[0];
  if (!meet && !swap) {
    s->position[0] = target[0];
    s->position[1] = target[1];
  }

  overcooked_cook(p, s);
  s->steps++;

  float delivered = (float)(OVERCOOKED_DELIVERY_REWARD * (s->soups - before));
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++)
    out[a] = (outcome){delivered + p->shaping * (float)points[a], 0, 0};
  *reset = s->steps >= p->max_steps;
}


static inline void overcooked_respawn(const overcooked_params *p, overcooked_state *s, const uint8_t *ended) {
  // no cook ends before the world does
  (void)p;
  (void)s;
  (void)ended;
}


static inline void overcooked_observe(const overcooked_params *p, const overcooked_state *s, overcooked_obs *obs) {
  float per_cook_step = 1.0f / (float)p->cook_steps, per_step = 1.0f / (float)p->max_steps;
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) {
    int32_t other = 1 - a;

    // the kitchen with both cooks, who have the same place in no state of play
    memcpy(obs[a].tiles, s->tiles, sizeof s->tiles);
    obs[a].tiles[s->position[other]] = (int8_t)(OVERCOOKED_OTHER + s->facing[other]);
    obs[a].tiles[s->position[a]] = (int8_t)(OVERCOOKED_SELF + s->facing[a]);

    // what they hold, and how long the pots and the world will take
    obs[a].held[0] = (int8_t)s->held[a];
    obs[a].held[1] = (int8_t)s->held[other];
    for (int32_t k = 0; k < OVERCOOKED_MAX_POTS; k++) obs[a].numbers[k] = (float)s->timer[k] * per_cook_step;
    obs[a].numbers[OVERCOOKED_MAX_POTS] = (float)(p->max_steps - s->steps) * per_step;
  }
}


static inline void overcooked_score(const overcooked_params *p, const overcooked_state *s, float *score) {
  (void)p;
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) score[a] = (float)s->soups;
}


static inline void overcooked_perf(const overcooked_params *p, const overcooked_state *s, float *perf) {
  float share = (float)s->soups * (1.0f / (float)overcooked_kitchen(p)->good_soups);
  for (int32_t a = 0; a < OVERCOOKED_MAX_AGENTS; a++) perf[a] = share < 1.0f ? share : 1.0f;
}
