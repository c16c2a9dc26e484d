// cpr.h: agents live on a common pool of food that grows only beside food. Twin of envs_jax/cpr.py.
//
// observation  window int8 (2 vision + 1, 2 vision + 1), numbers float32 (4,), per agent: its window with itself
//              in the middle: 0 empty, 1 food, 2 large piece, 3 agent, 4 wall; health / 100, its row and its
//              column / size, share of the time left. An agent that is out sees zeros
// action       discrete   0 up, 1 down, 2 left, 3 right, 4 stay
// reward       health_reward per point of health that a meal restores, waste_reward per point beyond the 100
//              that an agent can have, death_reward for dying
// ends         an agent without health is terminated, and out until the world ends: when all are out, or after
//              max_steps, which truncates the others
#pragma once

#include "env.h"

enum { CPR_UP, CPR_DOWN, CPR_LEFT, CPR_RIGHT, CPR_STAY };

// a cell of the grid
enum { CPR_EMPTY, CPR_FOOD, CPR_LARGE, CPR_AGENT, CPR_WALL };

enum {
  CPR_START_HEALTH = 80,
  CPR_MAX_HEALTH = 100,
  CPR_FOOD_HEALTH = 20,   // of a piece of food
  CPR_LARGE_HEALTH = 50,  // of a large piece, for each who eats of it
  CPR_OUT = 0,            // the cell of an agent that is out: a corner of the wall
};

enum {
  CPR_MAX_AGENTS = 16,
  CPR_MAX_SIZE = 32,   // cells along one side of the floor
  CPR_MAX_VISION = 7,  // cells
  CPR_MAX_STRIDE = CPR_MAX_SIZE + 2 * CPR_MAX_VISION,
  CPR_MAX_CELLS = CPR_MAX_STRIDE * CPR_MAX_STRIDE,
  CPR_MAX_SIDE = 2 * CPR_MAX_VISION + 1,  // cells along one side of the window
  CPR_ROW = 16,                           // bytes, of a window's row and what is copied with it
};

typedef struct {
  int32_t size;         // cells along one side of the floor
  int32_t agents;
  int32_t food;         // pieces at the start
  int32_t large_food;   // large pieces at the start
  int32_t vision;       // cells seen in each direction; also the thickness of the wall
  float spread;         // probability per step that an empty cell gets the food that it looks at
  float large_spread;   // the same of a large piece
  float health_reward;  // per point of health that a meal restores
  float waste_reward;   // per point that it has beyond what the agent can take
  float death_reward;
  int32_t max_steps;    // steps of the world before it is reset
  int32_t levels;       // number of fixed worlds, of which each has one; 0: new ones
  int32_t first_level;  // number of the first of them
} cpr_params;

typedef struct {
  uint32_t rng[2];
  int8_t grid[CPR_MAX_CELLS + 4];  // floor and wall, row by row
  int32_t agent[CPR_MAX_AGENTS];   // its cell; 0 if it is out
  int32_t health[CPR_MAX_AGENTS];  // 0 if it is out
  int32_t lived[CPR_MAX_AGENTS];   // steps
  int32_t eaten[CPR_MAX_AGENTS];   // pieces of food
  int32_t shared[CPR_MAX_AGENTS];  // large pieces that it ate of
  int32_t steps;                   // since the world began
} cpr_state;

typedef struct {
  int8_t window[CPR_MAX_SIDE * CPR_MAX_SIDE + 3];
  float numbers[4];
} cpr_obs;

typedef struct {
  float eaten;      // pieces of food
  float food_left;  // pieces in the world, large ones too
  float shared;     // large pieces that the agent ate of
} cpr_log;


// cells from one row of the grid to the next
static inline int32_t cpr_stride(const cpr_params *p) { return p->size + 2 * p->vision; }


static inline void cpr_init(const cpr_params *p, cpr_state *s) {
  // an empty floor within its wall
  int32_t stride = cpr_stride(p), cells = p->size * p->size;
  int32_t order[CPR_MAX_SIZE * CPR_MAX_SIZE];
  memset(s->grid, CPR_WALL, (size_t)(stride * stride));
  for (int32_t row = 0; row < p->size; row++)
    for (int32_t column = 0; column < p->size; column++) {
      int32_t cell = (row + p->vision) * stride + column + p->vision;
      order[row * p->size + column] = cell;
      s->grid[cell] = CPR_EMPTY;
    }

  // a random cell for each
  uint32_t world[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  rng_deal(world, order, cells, p->agents + p->large_food + p->food);

  // agents, then large pieces, then food
  for (int32_t i = 0; i < p->agents; i++) {
    s->grid[order[i]] = CPR_AGENT;
    s->agent[i] = order[i];
    s->health[i] = CPR_START_HEALTH;
    s->lived[i] = s->eaten[i] = s->shared[i] = 0;
  }
  for (int32_t k = 0; k < p->large_food; k++) s->grid[order[p->agents + k]] = CPR_LARGE;
  for (int32_t k = 0; k < p->food; k++) s->grid[order[p->agents + p->large_food + k]] = CPR_FOOD;
  s->steps = 0;
}


// an empty cell looks at one of the eight cells around it, and may get a piece of what is there
static inline void cpr_grow(const cpr_params *p, cpr_state *s) {
  int32_t stride = cpr_stride(p), grown = 0;
  const int32_t around[] = {-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1};
  int16_t cells[CPR_MAX_SIZE * CPR_MAX_SIZE];
  int8_t tiles[CPR_MAX_SIZE * CPR_MAX_SIZE];
  uint32_t key[2];
  rng_key(s->rng, key);
  for (int32_t row = p->vision; row < p->vision + p->size; row++)
    for (int32_t column = p->vision; column < p->vision + p->size; column++) {
      int32_t cell = row * stride + column;
      uint32_t drawn = rng_at(key, cell);
      float chance = rng_unit(drawn);
      if (chance >= p->spread && chance >= p->large_spread) continue;  // most cells
      int8_t seen = s->grid[cell + around[drawn & 7]];
      int32_t grows = (seen == CPR_FOOD && chance < p->spread) || (seen == CPR_LARGE && chance < p->large_spread);
      if (s->grid[cell] != CPR_EMPTY || !grows) continue;
      cells[grown] = (int16_t)cell;
      tiles[grown++] = seen;
    }

  // all at once: what has just grown does not spread yet
  for (int32_t k = 0; k < grown; k++) s->grid[cells[k]] = tiles[k];
}


static inline void cpr_transition(const cpr_params *p, cpr_state *s, const int32_t *action, outcome *out,
                                  int32_t *reset) {
  int32_t stride = cpr_stride(p);
  const int32_t step[] = {-stride, stride, -1, 1, 0};
  int32_t eats[CPR_MAX_AGENTS], meals[CPR_MAX_AGENTS], shared[CPR_MAX_AGENTS * 4], shared_pieces = 0;

  // one after the other moves onto an empty cell or food
  for (int32_t i = 0; i < p->agents; i++) {
    eats[i] = 0;
    if (s->health[i] == 0) continue;
    int32_t target = s->agent[i] + step[action[i]];
    if (s->grid[target] > CPR_FOOD) continue;
    eats[i] = s->grid[target] == CPR_FOOD;
    s->grid[s->agent[i]] = CPR_EMPTY;
    s->grid[target] = CPR_AGENT;
    s->agent[i] = target;
  }

  // a large piece with two agents or more beside it is eaten by all of them
  for (int32_t i = 0; i < p->agents; i++) {
    meals[i] = 0;
    if (s->health[i] == 0) continue;
    for (int32_t k = CPR_UP; k < CPR_STAY; k++) {
      int32_t cell = s->agent[i] + step[k], eaters = 0;
      if (s->grid[cell] != CPR_LARGE) continue;
      for (int32_t d = CPR_UP; d < CPR_STAY; d++) eaters += s->grid[cell + step[d]] == CPR_AGENT;
      if (eaters < 2) continue;
      meals[i]++;
      shared[shared_pieces++] = cell;
    }
  }
  for (int32_t k = 0; k < shared_pieces; k++) s->grid[shared[k]] = CPR_EMPTY;

  // health: a meal restores it up to the most that there is, and a step takes one point
  for (int32_t i = 0; i < p->agents; i++) {
    int32_t alive = s->health[i] > 0, food = CPR_FOOD_HEALTH * eats[i] + CPR_LARGE_HEALTH * meals[i];
    int32_t restored = s->health[i] + food < CPR_MAX_HEALTH ? food : CPR_MAX_HEALTH - s->health[i];
    s->health[i] += alive ? restored - 1 : 0;
    int32_t dies = alive && s->health[i] == 0;
    if (dies) {
      s->grid[s->agent[i]] = CPR_EMPTY;
      s->agent[i] = CPR_OUT;
    }
    s->lived[i] += alive;
    s->eaten[i] += eats[i];
    s->shared[i] += meals[i];
    out[i].reward = p->health_reward * (float)restored + p->waste_reward * (float)(food - restored) +
                    p->death_reward * (float)dies;
    out[i].terminated = dies;
    out[i].truncated = 0;
  }

  cpr_grow(p, s);
  s->steps++;
  *reset = s->steps >= p->max_steps;
}


// an agent without health is out until the world ends
static inline void cpr_respawn(const cpr_params *p, cpr_state *s, const uint8_t *ended) {
  (void)p;
  (void)s;
  (void)ended;
}


static inline void cpr_active(const cpr_params *p, const cpr_state *s, uint8_t *active) {
  for (int32_t i = 0; i < p->agents; i++) active[i] = s->health[i] > 0;
}


static inline void cpr_observe(const cpr_params *p, const cpr_state *s, cpr_obs *obs) {
  int32_t stride = cpr_stride(p), side = 2 * p->vision + 1;
  float per_cell = 1.0f / (float)p->size, per_health = 1.0f / (float)CPR_MAX_HEALTH;
  float left = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
  for (int32_t i = 0; i < p->agents; i++) {
    if (s->health[i] == 0) continue;  // an agent that is out sees zeros
    int32_t row = s->agent[i] / stride - p->vision, column = s->agent[i] % stride - p->vision;
    for (int32_t y = 0; y < side; y++)  // the next row overwrites what is too much
      memcpy(&obs[i].window[y * side], &s->grid[(row + y) * stride + column], CPR_ROW);
    obs[i].numbers[0] = (float)s->health[i] * per_health;
    obs[i].numbers[1] = (float)row * per_cell;
    obs[i].numbers[2] = (float)column * per_cell;
    obs[i].numbers[3] = left;
  }
}


static inline void cpr_score(const cpr_params *p, const cpr_state *s, float *score) {
  for (int32_t i = 0; i < p->agents; i++) score[i] = (float)s->lived[i];
}


static inline void cpr_perf(const cpr_params *p, const cpr_state *s, float *perf) {
  float per_step = 1.0f / (float)p->max_steps;
  for (int32_t i = 0; i < p->agents; i++) perf[i] = (float)s->lived[i] * per_step;
}


static inline void cpr_figures(const cpr_params *p, const cpr_state *s, cpr_log *log) {
  int32_t stride = cpr_stride(p), left = 0;
  for (int32_t cell = 0; cell < stride * stride; cell++)
    left += s->grid[cell] == CPR_FOOD || s->grid[cell] == CPR_LARGE;
  for (int32_t i = 0; i < p->agents; i++) {
    log[i].eaten = (float)s->eaten[i];
    log[i].food_left = (float)left;
    log[i].shared = (float)s->shared[i];
  }
}
