// trash_pickup.h: agents clean a floor, and share the bins that they push around. Twin of envs_jax/trash_pickup.py.
//
// observation  window int8 (2 vision + 1, 2 vision + 1), numbers float32 (4,), per agent: its window
//              with itself in the middle: 0 floor, 1 trash, 2 bin, 3 agent, 4 agent that carries a piece, 5 wall;
//              1 if it carries a piece, its row and its column / size, share of the time left
// action       discrete   0 up, 1 down, 2 left, 3 right
// reward       pickup_reward for a piece picked up, deposit_reward for one put into a bin
// ends         terminated, all agents at once, when every piece is in a bin; truncated after max_steps
#pragma once

#include "env.h"

enum { TRASH_PICKUP_UP, TRASH_PICKUP_DOWN, TRASH_PICKUP_LEFT, TRASH_PICKUP_RIGHT };

// a cell of the grid; TRASH_PICKUP_AGENT + 1 is an agent that carries a piece
enum { TRASH_PICKUP_FLOOR, TRASH_PICKUP_TRASH, TRASH_PICKUP_BIN, TRASH_PICKUP_AGENT, TRASH_PICKUP_WALL = 5 };

enum {
  TRASH_PICKUP_MAX_AGENTS = 16,
  TRASH_PICKUP_MAX_BINS = 16,
  TRASH_PICKUP_MAX_SIZE = 32,   // cells along one side of the floor
  TRASH_PICKUP_MAX_VISION = 7,  // cells
  TRASH_PICKUP_MAX_STRIDE = TRASH_PICKUP_MAX_SIZE + 2 * TRASH_PICKUP_MAX_VISION,
  TRASH_PICKUP_MAX_SIDE = 2 * TRASH_PICKUP_MAX_VISION + 1,  // cells along one side of the window
  TRASH_PICKUP_ROW = 16,        // bytes, of a window's row and what is copied with it
};

typedef struct {
  int32_t size;          // cells along one side of the floor
  int32_t agents;
  int32_t trash;         // pieces on the floor at the start
  int32_t bins;
  int32_t vision;        // cells seen in each direction; also the thickness of the wall
  float pickup_reward;
  float deposit_reward;
  int32_t max_steps;     // steps of the world before it is reset
  int32_t levels;        // number of fixed floors, of which each world has one; 0: new ones
  int32_t first_level;   // number of the first of them
} trash_pickup_params;

typedef struct {
  uint32_t rng[2];
  int8_t grid[TRASH_PICKUP_MAX_STRIDE * TRASH_PICKUP_MAX_STRIDE + 4];  // floor and wall, row by row
  int32_t agent[TRASH_PICKUP_MAX_AGENTS];      // its cell
  int32_t carries[TRASH_PICKUP_MAX_AGENTS];    // pieces, 0 or 1
  int32_t delivered[TRASH_PICKUP_MAX_AGENTS];  // pieces that it put into a bin
  int32_t bin[TRASH_PICKUP_MAX_BINS];          // its cell
  int32_t steps;                               // since the world began
} trash_pickup_state;

typedef struct {
  int8_t window[TRASH_PICKUP_MAX_SIDE * TRASH_PICKUP_MAX_SIDE + 3];
  float numbers[4];
} trash_pickup_obs;

typedef struct {
  float delivered_alone;  // pieces that this agent put into a bin
} trash_pickup_log;


// cells from one row of the grid to the next
static inline int32_t trash_pickup_stride(const trash_pickup_params *p) { return p->size + 2 * p->vision; }


// pieces in the bins
static inline int32_t trash_pickup_in_bins(const trash_pickup_params *p, const trash_pickup_state *s) {
  int32_t pieces = 0;
  for (int32_t i = 0; i < p->agents; i++) pieces += s->delivered[i];
  return pieces;
}


static inline void trash_pickup_init(const trash_pickup_params *p, trash_pickup_state *s) {
  // an empty floor within its wall
  int32_t stride = trash_pickup_stride(p), cells = p->size * p->size;
  int32_t order[TRASH_PICKUP_MAX_SIZE * TRASH_PICKUP_MAX_SIZE];
  memset(s->grid, TRASH_PICKUP_WALL, (size_t)(stride * stride));
  for (int32_t row = 0; row < p->size; row++)
    for (int32_t column = 0; column < p->size; column++) {
      int32_t cell = (row + p->vision) * stride + column + p->vision;
      order[row * p->size + column] = cell;
      s->grid[cell] = TRASH_PICKUP_FLOOR;
    }

  // a random cell for each
  uint32_t world[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  rng_deal(world, order, cells, p->agents + p->bins + p->trash);

  // agents, then bins, then trash
  for (int32_t i = 0; i < p->agents; i++) {
    s->agent[i] = order[i];
    s->carries[i] = s->delivered[i] = 0;
    s->grid[order[i]] = TRASH_PICKUP_AGENT;
  }
  for (int32_t k = 0; k < p->bins; k++) {
    s->bin[k] = order[p->agents + k];
    s->grid[s->bin[k]] = TRASH_PICKUP_BIN;
  }
  for (int32_t k = 0; k < p->trash; k++) s->grid[order[p->agents + p->bins + k]] = TRASH_PICKUP_TRASH;
  s->steps = 0;
}


// one agent acts: what it gets for it
static inline float trash_pickup_act(const trash_pickup_params *p, trash_pickup_state *s, int32_t i, int32_t step) {
  int32_t here = s->agent[i], target = here + step, beyond = target + step;
  int32_t ahead = s->grid[target], moves = ahead == TRASH_PICKUP_FLOOR;
  float reward = 0.0f;

  if (ahead == TRASH_PICKUP_TRASH && !s->carries[i]) {
    // pick up the piece
    s->carries[i] = 1;
    reward = p->pickup_reward;
    moves = 1;
  } else if (ahead == TRASH_PICKUP_BIN && s->carries[i]) {
    // put the piece into the bin, and stay
    s->carries[i] = 0;
    s->delivered[i]++;
    s->grid[here] = TRASH_PICKUP_AGENT;
    reward = p->deposit_reward;
  } else if (ahead == TRASH_PICKUP_BIN && s->grid[beyond] == TRASH_PICKUP_FLOOR) {
    // push the bin
    for (int32_t k = 0; k < p->bins; k++)
      if (s->bin[k] == target) s->bin[k] = beyond;
    s->grid[beyond] = TRASH_PICKUP_BIN;
    moves = 1;
  }

  if (moves) {
    s->grid[here] = TRASH_PICKUP_FLOOR;
    s->grid[target] = (int8_t)(TRASH_PICKUP_AGENT + s->carries[i]);
    s->agent[i] = target;
  }
  return reward;
}


static inline void trash_pickup_transition(const trash_pickup_params *p, trash_pickup_state *s, const int32_t *action,
                                           outcome *out, int32_t *reset) {
  // one after the other
  int32_t stride = trash_pickup_stride(p);
  const int32_t step[] = {-stride, stride, -1, 1};
  for (int32_t i = 0; i < p->agents; i++) out[i].reward = trash_pickup_act(p, s, i, step[action[i]]);
  s->steps++;

  // is the floor clean, or has time run out?
  int32_t clean = trash_pickup_in_bins(p, s) == p->trash;
  for (int32_t i = 0; i < p->agents; i++) {
    out[i].terminated = clean;
    out[i].truncated = 0;
  }
  *reset = s->steps >= p->max_steps;
}


// agents end only with their world
static inline void trash_pickup_respawn(const trash_pickup_params *p, trash_pickup_state *s, const uint8_t *ended) {
  (void)p;
  (void)s;
  (void)ended;
}


static inline void trash_pickup_observe(const trash_pickup_params *p, const trash_pickup_state *s,
                                        trash_pickup_obs *obs) {
  int32_t stride = trash_pickup_stride(p), side = 2 * p->vision + 1;
  float per_cell = 1.0f / (float)p->size;
  float left = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
  for (int32_t i = 0; i < p->agents; i++) {
    int32_t row = s->agent[i] / stride - p->vision, column = s->agent[i] % stride - p->vision;
    for (int32_t y = 0; y < side; y++)  // the next row overwrites what is too much
      memcpy(&obs[i].window[y * side], &s->grid[(row + y) * stride + column], TRASH_PICKUP_ROW);
    obs[i].numbers[0] = (float)s->carries[i];
    obs[i].numbers[1] = (float)row * per_cell;
    obs[i].numbers[2] = (float)column * per_cell;
    obs[i].numbers[3] = left;
  }
}


// what all have done together
static inline void trash_pickup_score(const trash_pickup_params *p, const trash_pickup_state *s, float *score) {
  for (int32_t i = 0; i < p->agents; i++) score[i] = (float)trash_pickup_in_bins(p, s);
}


static inline void trash_pickup_perf(const trash_pickup_params *p, const trash_pickup_state *s, float *perf) {
  float per_piece = 1.0f / (float)p->trash;
  for (int32_t i = 0; i < p->agents; i++) perf[i] = (float)trash_pickup_in_bins(p, s) * per_piece;
}


static inline void trash_pickup_figures(const trash_pickup_params *p, const trash_pickup_state *s,
                                        trash_pickup_log *log) {
  for (int32_t i = 0; i < p->agents; i++) log[i].delivered_alone = (float)s->delivered[i];
}
