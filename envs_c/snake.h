// snake.h: an arena of snakes that eat and grow. Twin of envs_jax/snake.py.
//
// observation  int8 ((2 vision + 1)^2,) per snake, row by row, its head in the middle:
//              0 empty, 1 food, 2 corpse, 3 wall, 4 its own body, 5 another's
// action       discrete   0 up, 1 down, 2 left, 3 right; turning back is masked, and ignored if played
// reward       food_reward for food or a corpse, death_reward for dying
// ends         a snake is terminated on hitting a wall or a body, or head to head; it starts again
//              at once, of length 1. The world is reset after max_steps, which truncates the others
#pragma once

#include "env.h"

enum { SNAKE_UP, SNAKE_DOWN, SNAKE_LEFT, SNAKE_RIGHT, SNAKE_HEADINGS };

// a cell of the grid; SNAKE_BODY + i is the body of snake i. Observed: SNAKE_OWN and SNAKE_OTHER
enum { SNAKE_EMPTY, SNAKE_FOOD, SNAKE_CORPSE, SNAKE_WALL, SNAKE_BODY, SNAKE_OWN = 4, SNAKE_OTHER = 5 };

enum {
  SNAKE_MAX_AGENTS = 32,
  SNAKE_MAX_SIDE = 64,       // cells, of the arena
  SNAKE_MAX_VISION = 7,      // cells
  SNAKE_MAX_CELLS = (SNAKE_MAX_SIDE + 2 * SNAKE_MAX_VISION) * (SNAKE_MAX_SIDE + 2 * SNAKE_MAX_VISION),
  SNAKE_MAX_BODY_CELLS = 4096,  // num_snakes * max_length
  SNAKE_SPAWN_TRIES = 4,        // random cells tried for a snake
  SNAKE_FOOD_TRIES = 4,         // random cells tried for missing food, each step
};

typedef struct {
  int32_t width;        // cells, of the arena
  int32_t height;       // cells
  int32_t num_snakes;
  int32_t num_food;     // pieces of food that the arena keeps
  int32_t vision;       // cells seen in each direction; also the thickness of the wall
  int32_t max_length;   // cells; a snake of this length does not grow
  float food_reward;
  float death_reward;
  int32_t max_steps;    // steps of the world before it is reset
} snake_params;

typedef struct {
  uint32_t rng[2];
  int8_t grid[SNAKE_MAX_CELLS];         // arena and wall, row by row
  int16_t body[SNAKE_MAX_BODY_CELLS];   // per snake a ring of max_length cells, head at slot `front`
  int32_t front[SNAKE_MAX_AGENTS];
  int32_t head[SNAKE_MAX_AGENTS];       // its cell
  int32_t length[SNAKE_MAX_AGENTS];     // cells; of a dead snake, the length at its death
  int32_t heading[SNAKE_MAX_AGENTS];
  int32_t missing_food;                 // pieces eaten and not yet grown again
  int32_t steps;                        // since the world began
} snake_state;


// cells from one row of the grid to the next
static inline int32_t snake_stride(const snake_params *p) {
  return p->width + 2 * p->vision;
}


// a uniformly random cell of the arena
static inline int32_t snake_random_cell(const snake_params *p, uint32_t *rng) {
  int32_t cell = rng_below(rng, p->width * p->height);
  return (cell / p->width + p->vision) * snake_stride(p) + cell % p->width + p->vision;
}


// reset the snakes that ended, one after the other, each on an empty cell
static inline void snake_respawn(const snake_params *p, snake_state *s, const uint8_t *ended) {
  int32_t cells = snake_stride(p) * (p->height + 2 * p->vision);
  for (int32_t i = 0; i < p->num_snakes; i++) {
    if (!ended[i]) continue;

    // the first empty one of a few random cells, otherwise the first of all cells that a snake may cover
    int32_t found = -1;
    for (int32_t t = 0; t < SNAKE_SPAWN_TRIES; t++) {
      int32_t cell = snake_random_cell(p, s->rng);
      if (found < 0 && s->grid[cell] == SNAKE_EMPTY) found = cell;
    }
    for (int32_t cell = 0; found < 0 && cell < cells; cell++)
      if (s->grid[cell] == SNAKE_EMPTY || s->grid[cell] == SNAKE_CORPSE) found = cell;
    int32_t heading = rng_below(s->rng, SNAKE_HEADINGS);

    s->grid[found] = (int8_t)(SNAKE_BODY + i);
    s->body[i * p->max_length] = (int16_t)found;
    s->front[i] = 0;
    s->head[i] = found;
    s->length[i] = 1;
    s->heading[i] = heading;
  }
}


// grow food on random cells, if they are empty
static inline void snake_grow_food(const snake_params *p, snake_state *s, int32_t tries) {
  for (int32_t t = 0; t < tries; t++) {
    int32_t cell = snake_random_cell(p, s->rng);
    if (s->missing_food > 0 && s->grid[cell] == SNAKE_EMPTY) {
      s->grid[cell] = SNAKE_FOOD;
      s->missing_food--;
    }
  }
}


static inline void snake_init(const snake_params *p, snake_state *s) {
  // an empty arena within its wall
  int32_t stride = snake_stride(p), rows = p->height + 2 * p->vision;
  for (int32_t y = 0; y < rows; y++)
    for (int32_t x = 0; x < stride; x++) {
      int32_t inside = x >= p->vision && x < p->vision + p->width && y >= p->vision && y < p->vision + p->height;
      s->grid[y * stride + x] = inside ? SNAKE_EMPTY : SNAKE_WALL;
    }

  // snakes and food
  for (int32_t k = 0; k < p->num_snakes * p->max_length; k++) s->body[k] = 0;
  uint8_t everyone[SNAKE_MAX_AGENTS];
  for (int32_t i = 0; i < p->num_snakes; i++) everyone[i] = 1;
  s->missing_food = p->num_food;
  s->steps = 0;
  snake_respawn(p, s, everyone);
  snake_grow_food(p, s, p->num_food);
}


static inline void snake_transition(const snake_params *p, snake_state *s, const int32_t *action, outcome *out,
                                    int32_t *reset) {
  int32_t stride = snake_stride(p);
  int32_t target[SNAKE_MAX_AGENTS], found[SNAKE_MAX_AGENTS], grows[SNAKE_MAX_AGENTS], dead[SNAKE_MAX_AGENTS];

  // all turn, and look at the cell ahead; turning back into the neck has no effect
  for (int32_t i = 0; i < p->num_snakes; i++) {
    int32_t back = s->heading[i] ^ 1;
    if (s->length[i] == 1 || action[i] != back) s->heading[i] = action[i];
    int32_t along = s->heading[i] == SNAKE_UP || s->heading[i] == SNAKE_DOWN ? stride : 1;
    int32_t forward = s->heading[i] == SNAKE_DOWN || s->heading[i] == SNAKE_RIGHT;
    target[i] = s->head[i] + (forward ? along : -along);
    found[i] = s->grid[target[i]];
    grows[i] = (found[i] == SNAKE_FOOD || found[i] == SNAKE_CORPSE) && s->length[i] < p->max_length;
  }

  // all pull in their tails, except the ones that grow
  for (int32_t i = 0; i < p->num_snakes; i++) {
    if (grows[i]) continue;
    int32_t slot = s->front[i] - (s->length[i] - 1);
    if (slot < 0) slot += p->max_length;
    s->grid[s->body[i * p->max_length + slot]] = SNAKE_EMPTY;
  }

  // a snake that hits a wall, a body or another's head dies
  for (int32_t i = 0; i < p->num_snakes; i++) {
    int32_t ahead = s->grid[target[i]];
    dead[i] = ahead >= SNAKE_WALL;
    for (int32_t j = 0; j < p->num_snakes; j++)
      if (j != i && target[j] == target[i]) dead[i] = 1;
  }

  // dead snakes leave a corpse on every second cell of their bodies, by a chessboard pattern
  for (int32_t i = 0; i < p->num_snakes; i++) {
    if (!dead[i]) continue;
    int32_t cells = s->length[i] - !grows[i];
    for (int32_t k = 0; k < cells; k++) {
      int32_t slot = s->front[i] - k;
      if (slot < 0) slot += p->max_length;
      int32_t cell = s->body[i * p->max_length + slot];
      s->grid[cell] = (cell / stride + cell % stride) % 2 == 0 ? SNAKE_CORPSE : SNAKE_EMPTY;
    }
  }

  // the others move on
  for (int32_t i = 0; i < p->num_snakes; i++) {
    int32_t eats = !dead[i] && (found[i] == SNAKE_FOOD || found[i] == SNAKE_CORPSE);
    if (!dead[i]) {
      s->front[i] = s->front[i] + 1 == p->max_length ? 0 : s->front[i] + 1;
      s->head[i] = target[i];
      s->body[i * p->max_length + s->front[i]] = (int16_t)target[i];
      s->grid[target[i]] = (int8_t)(SNAKE_BODY + i);
      s->length[i] += grows[i];
      if (found[i] == SNAKE_FOOD) s->missing_food++;
    }
    out[i].reward = dead[i] ? p->death_reward : eats ? p->food_reward : 0.0f;
    out[i].terminated = dead[i];
    out[i].truncated = 0;
  }

  snake_grow_food(p, s, SNAKE_FOOD_TRIES);
  s->steps++;
  *reset = s->steps >= p->max_steps;
}


static inline void snake_observe(const snake_params *p, const snake_state *s, int8_t *obs) {
  int32_t stride = snake_stride(p), side = 2 * p->vision + 1;
  for (int32_t i = 0; i < p->num_snakes; i++) {
    const int8_t *corner = s->grid + s->head[i] - p->vision * stride - p->vision;
    int8_t *window = obs + i * side * side;
    int8_t own = (int8_t)(SNAKE_BODY + i);
    for (int32_t y = 0; y < side; y++)
      for (int32_t x = 0; x < side; x++) {
        int8_t tile = corner[y * stride + x];
        int8_t body = tile == own ? SNAKE_OWN : SNAKE_OTHER;
        window[y * side + x] = tile < SNAKE_BODY ? tile : body;
      }
  }
}


static inline void snake_action_mask(const snake_params *p, const snake_state *s, uint8_t *mask) {
  for (int32_t i = 0; i < p->num_snakes; i++)
    for (int32_t a = 0; a < SNAKE_HEADINGS; a++)
      mask[i * SNAKE_HEADINGS + a] = s->length[i] == 1 || a != (s->heading[i] ^ 1);
}


static inline void snake_score(const snake_params *p, const snake_state *s, float *score) {
  for (int32_t i = 0; i < p->num_snakes; i++) score[i] = (float)s->length[i];
}


static inline void snake_perf(const snake_params *p, const snake_state *s, float *perf) {
  float per_cell = 1.0f / (float)p->max_length;
  for (int32_t i = 0; i < p->num_snakes; i++) perf[i] = (float)s->length[i] * per_cell;
}
