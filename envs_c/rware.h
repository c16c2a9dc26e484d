// rware.h: robots bring the shelves of a warehouse to a goal and back. Twin of envs_jax/rware.py.
//
// observation  window int8 (2 vision + 1, 2 vision + 1, 2), numbers float32 (12,) per robot: what stands in
//              each cell around it and which robot is there, itself in the middle and what is ahead
//              above; its row and column, how far ahead and to its right the nearest goal is, and
//              1 at its facing and at its load
// action       discrete   0 stay, 1 forward, 2 turn left, 3 turn right, 4 lift or put down a shelf
// reward       load_reward for lifting a requested shelf, and minus that for putting it back;
//              deliver_reward for bringing it to a goal; return_reward for putting it down after that
// ends         the world is reset after max_steps, which truncates all
#pragma once

#include "env.h"

enum { RWARE_STAY, RWARE_FORWARD, RWARE_TURN_LEFT, RWARE_TURN_RIGHT, RWARE_LOAD };

// a robot's facing, clockwise
enum { RWARE_UP, RWARE_RIGHT, RWARE_DOWN, RWARE_LEFT, RWARE_FACINGS };

// what a robot carries
enum { RWARE_NOTHING, RWARE_SHELF, RWARE_REQUESTED, RWARE_DELIVERED };

// a cell as it is observed: a place is empty, or a shelf stands there, or a requested one
enum { RWARE_OUTSIDE, RWARE_LANE, RWARE_PLACE, RWARE_STANDING, RWARE_WANTED, RWARE_GOAL };

// a robot as it is observed: + its facing seen from the own one
enum { RWARE_NO_ROBOT, RWARE_EMPTY_ROBOT, RWARE_LOADED_ROBOT = RWARE_EMPTY_ROBOT + RWARE_FACINGS };

enum {
  RWARE_MAX_AGENTS = 16,
  RWARE_MAX_ROWS = 16,
  RWARE_MAX_COLUMNS = 20,
  RWARE_MAX_VISION = 3,  // cells
  RWARE_MAX_SIDE = 2 * RWARE_MAX_VISION + 1,
  RWARE_STRIDE = 32,     // bytes of a row of cells with its margin, and more
  RWARE_ROBOT = 8,       // above the numbers of cells
  RWARE_GOALS = 2,
};

// cells down and to the right of a step, by facing
static const int32_t RWARE_STEP_DOWN[] = {-1, 0, 1, 0}, RWARE_STEP_RIGHT[] = {0, 1, 0, -1};

typedef struct {
  int32_t height, width;  // cells
  int32_t goal_row[RWARE_GOALS], goal_column[RWARE_GOALS];
  int32_t good_deliveries;  // of each robot in 500 steps, a perf of 1
  char cells[RWARE_MAX_ROWS][RWARE_MAX_COLUMNS + 1];  // as they are observed when all shelves stand, without robots
} rware_layout;

static const rware_layout RWARE_LAYOUTS[] = {
  {11, 10, {10, 10}, {4, 5}, 15,  // tiny
    {"11111111110000000000",
     "13311113310000000000",
     "13311113310000000000",
     "13311113310000000000",
     "13311113310000000000",
     "13311113310000000000",
     "13311113310000000000",
     "13311113310000000000",
     "13311113310000000000",
     "11111111110000000000",
     "11115511110000000000"}},
  {10, 20, {4, 5}, {0, 0}, 8,  // small
    {"11111111111111111111",
     "11333333331333333331",
     "11333333331333333331",
     "11111111111111111111",
     "51111111111333333331",
     "51111111111333333331",
     "11111111111111111111",
     "11333333331333333331",
     "11333333331333333331",
     "11111111111111111111"}},
  {16, 20, {7, 8}, {0, 0}, 6,  // medium
    {"11111111111111111111",
     "11333333331333333331",
     "11333333331333333331",
     "11111111111111111111",
     "11333333331333333331",
     "11333333331333333331",
     "11111111111111111111",
     "51111111111333333331",
     "51111111111333333331",
     "11111111111111111111",
     "11333333331333333331",
     "11333333331333333331",
     "11111111111111111111",
     "11333333331333333331",
     "11333333331333333331",
     "11111111111111111111"}},
};

typedef struct {
  int32_t layout;        // number of the warehouse, in the order of the table
  int32_t agents;        // robots
  int32_t requests;      // shelves requested at a time
  int32_t vision;        // cells seen in each direction
  float load_reward;
  float deliver_reward;
  float return_reward;
  int32_t max_steps;     // steps of the world before it is reset
  int32_t levels;        // number of fixed starts, of which each world has one; 0: new ones
  int32_t first_level;   // number of the first of them
} rware_params;

typedef struct {
  uint32_t rng[2];
  uint32_t empty[RWARE_MAX_ROWS];        // (height,), bit c: the place in column c of this row has no shelf
  uint32_t requested[RWARE_MAX_ROWS];    // (height,), bit c: the shelf there is requested
  int32_t row[RWARE_MAX_AGENTS];         // of each robot
  int32_t column[RWARE_MAX_AGENTS];
  int32_t facing[RWARE_MAX_AGENTS];
  int32_t load[RWARE_MAX_AGENTS];        // what it carries
  int32_t delivered[RWARE_MAX_AGENTS];   // shelves that it brought to a goal
  int32_t steps;                         // since the world began
} rware_state;

typedef struct {
  int8_t window[RWARE_MAX_SIDE * RWARE_MAX_SIDE * 2 + 2];
  float numbers[12];
} rware_obs;

typedef struct {
  float delivered_alone;  // shelves that this robot brought to a goal
} rware_log;


static inline const rware_layout *rware_hall(const rware_params *p) { return &RWARE_LAYOUTS[p->layout]; }


// is the bit of a column set?
static inline int32_t rware_is_set(uint32_t word, int32_t column) { return (int32_t)((word >> column) & 1); }


// does a shelf stand there?
static inline int32_t rware_stands(const rware_params *p, const rware_state *s, int32_t row, int32_t column) {
  return rware_hall(p)->cells[row][column] == '0' + RWARE_STANDING && !rware_is_set(s->empty[row], column);
}


// a uniformly random one of the bits that are set
static inline void rware_pick(const rware_params *p, uint32_t *stream, const uint32_t *words, int32_t *row,
                              int32_t *column) {
  // how many there are, and which one
  int32_t height = rware_hall(p)->height, count = 0;
  for (int32_t y = 0; y < height; y++)
    for (uint32_t word = words[y]; word != 0; word &= word - 1) count++;
  int32_t k = rng_below(stream, count);

  // its row and column
  for (int32_t y = 0; y < height; y++)
    for (int32_t x = 0; x < rware_hall(p)->width; x++)
      if (rware_is_set(words[y], x) && k-- == 0) {
        *row = y;
        *column = x;
      }
}


// request one more of the shelves that stand in their places
static inline void rware_request(const rware_params *p, rware_state *s, uint32_t *stream) {
  uint32_t others[RWARE_MAX_ROWS] = {0};
  int32_t row = 0, column = 0;
  for (int32_t y = 0; y < rware_hall(p)->height; y++)
    for (int32_t x = 0; x < rware_hall(p)->width; x++)
      if (rware_stands(p, s, y, x) && !rware_is_set(s->requested[y], x)) others[y] |= 1u << x;
  rware_pick(p, stream, others, &row, &column);
  s->requested[row] |= 1u << column;
}


static inline void rware_init(const rware_params *p, rware_state *s) {
  // a shelf in every place
  uint32_t free[RWARE_MAX_ROWS];
  for (int32_t y = 0; y < rware_hall(p)->height; y++) {
    s->empty[y] = s->requested[y] = 0;
    free[y] = (1u << rware_hall(p)->width) - 1;
  }

  // some are requested
  uint32_t world[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  for (int32_t k = 0; k < p->requests; k++) rware_request(p, s, world);

  // robots on cells of their own, under shelves too
  for (int32_t i = 0; i < p->agents; i++) {
    rware_pick(p, world, free, &s->row[i], &s->column[i]);
    free[s->row[i]] &= ~(1u << s->column[i]);
    s->facing[i] = rng_below(world, RWARE_FACINGS);
    s->load[i] = RWARE_NOTHING;
    s->delivered[i] = 0;
  }
  s->steps = 0;
}


// a robot lifts the shelf above it, or puts down its own; returns its reward
static inline float rware_load(const rware_params *p, rware_state *s, int32_t i) {
  uint32_t *empty = &s->empty[s->row[i]], *requested = &s->requested[s->row[i]], bit = 1u << s->column[i];
  int32_t load = s->load[i];

  if (load == RWARE_NOTHING && rware_stands(p, s, s->row[i], s->column[i])) {
    // lift it
    s->load[i] = (*requested & bit) != 0 ? RWARE_REQUESTED : RWARE_SHELF;
    *empty |= bit;
    *requested &= ~bit;
    return s->load[i] == RWARE_REQUESTED ? p->load_reward : 0.0f;
  }
  if (load != RWARE_NOTHING && (*empty & bit) != 0) {
    // put it down
    s->load[i] = RWARE_NOTHING;
    *empty &= ~bit;
    if (load == RWARE_REQUESTED) *requested |= bit;
    return load == RWARE_REQUESTED ? -p->load_reward : load == RWARE_DELIVERED ? p->return_reward : 0.0f;
  }
  return 0.0f;
}


// the robots that want to, and can, move one cell ahead, all at once
static inline void rware_move(const rware_params *p, rware_state *s, const int32_t *action) {
  const rware_layout *hall = rware_hall(p);
  int32_t cell[RWARE_MAX_AGENTS], target[RWARE_MAX_AGENTS], next[RWARE_MAX_AGENTS], moves[RWARE_MAX_AGENTS];
  int32_t any = 0;

  // who wants to: not out of the warehouse, and with a load not where a shelf stands
  for (int32_t i = 0; i < p->agents; i++) {
    int32_t row = s->row[i] + RWARE_STEP_DOWN[s->facing[i]], column = s->column[i] + RWARE_STEP_RIGHT[s->facing[i]];
    int32_t inside = row >= 0 && row < hall->height && column >= 0 && column < hall->width;
    cell[i] = s->row[i] * hall->width + s->column[i];
    target[i] = row * hall->width + column;
    moves[i] = action[i] == RWARE_FORWARD && inside &&
               (s->load[i] == RWARE_NOTHING || !rware_stands(p, s, row, column));
    any |= moves[i];
  }
  if (!any) return;

  // the robot that is in the way; two that would swap places stay
  for (int32_t i = 0; i < p->agents; i++) {
    next[i] = -1;
    for (int32_t j = 0; moves[i] && j < p->agents; j++)
      if (cell[j] == target[i]) next[i] = j;
  }
  for (int32_t i = 0; i < p->agents; i++)
    if (next[i] > i && next[next[i]] == i) moves[i] = moves[next[i]] = 0;

  // how long the longest queue behind each robot is: cycles count as the longest
  int32_t queue[RWARE_MAX_AGENTS] = {0};
  for (int32_t i = 0; i < p->agents; i++)
    for (int32_t j = i, length = 1; moves[j] && next[j] >= 0 && length <= p->agents; length++) {
      j = next[j];
      if (queue[j] < length) queue[j] = length;
    }

  // of those that want one cell only the one with the longest queue moves, the first if they are equal
  for (int32_t i = 0; i < p->agents; i++)
    for (int32_t j = 0; moves[i] && j < p->agents; j++)
      if (moves[j] && target[j] == target[i] && (queue[j] > queue[i] || (queue[j] == queue[i] && j < i))) moves[i] = 0;

  // and only if the robot in the way moves too: until nothing changes
  for (int32_t k = 0, changed = 1; changed && k < p->agents; k++) {
    changed = 0;
    for (int32_t i = 0; i < p->agents; i++)
      if (moves[i] && next[i] >= 0 && !moves[next[i]]) {
        moves[i] = 0;
        changed = 1;
      }
  }

  for (int32_t i = 0; i < p->agents; i++) {
    if (!moves[i]) continue;
    s->row[i] += RWARE_STEP_DOWN[s->facing[i]];
    s->column[i] += RWARE_STEP_RIGHT[s->facing[i]];
  }
}


static inline void rware_transition(const rware_params *p, rware_state *s, const int32_t *action, outcome *out,
                                    int32_t *reset) {
  // turn, lift and put down, then move
  for (int32_t i = 0; i < p->agents; i++) {
    int32_t turn = (action[i] == RWARE_TURN_RIGHT) - (action[i] == RWARE_TURN_LEFT);
    s->facing[i] = (s->facing[i] + turn) & (RWARE_FACINGS - 1);
    out[i] = (outcome){action[i] == RWARE_LOAD ? rware_load(p, s, i) : 0.0f, 0, 0};
  }
  rware_move(p, s, action);

  // a requested shelf at a goal is delivered, and another one is requested
  const rware_layout *hall = rware_hall(p);
  for (int32_t i = 0; i < p->agents; i++)
    for (int32_t g = 0; s->load[i] == RWARE_REQUESTED && g < RWARE_GOALS; g++)
      if (s->row[i] == hall->goal_row[g] && s->column[i] == hall->goal_column[g]) {
        s->load[i] = RWARE_DELIVERED;
        s->delivered[i]++;
        out[i].reward += p->deliver_reward;
        rware_request(p, s, s->rng);
      }

  s->steps++;
  *reset = s->steps >= p->max_steps;
}


// robots end only with their world
static inline void rware_respawn(const rware_params *p, rware_state *s, const uint8_t *ended) {
  (void)p;
  (void)s;
  (void)ended;
}


static inline void rware_observe(const rware_params *p, const rware_state *s, rware_obs *obs) {
  // the warehouse within a margin, and above each cell's bits those of the robot there
  const rware_layout *hall = rware_hall(p);
  int8_t cells[(RWARE_MAX_ROWS + 2 * RWARE_MAX_VISION) * RWARE_STRIDE];
  int8_t *first = &cells[p->vision * RWARE_STRIDE + p->vision];
  memset(cells, RWARE_OUTSIDE, (size_t)((hall->height + 2 * p->vision) * RWARE_STRIDE));
  for (int32_t y = 0; y < hall->height; y++) {
    int8_t *row = &first[y * RWARE_STRIDE];
    for (int32_t x = 0; x < RWARE_MAX_COLUMNS; x++) row[x] = (int8_t)(hall->cells[y][x] - '0');
    for (uint32_t word = s->empty[y] | s->requested[y]; word != 0; word &= word - 1) {
      int32_t x = __builtin_ctz(word);  // its lowest bit
      row[x] = rware_is_set(s->empty[y], x) ? RWARE_PLACE : RWARE_WANTED;
    }
  }
  for (int32_t i = 0; i < p->agents; i++) {
    int32_t robot = (s->load[i] == RWARE_NOTHING ? RWARE_EMPTY_ROBOT : RWARE_LOADED_ROBOT) + s->facing[i];
    first[s->row[i] * RWARE_STRIDE + s->column[i]] |= (int8_t)(robot * RWARE_ROBOT);
  }

  int32_t side = 2 * p->vision + 1;
  float per_cell = 1.0f / (float)(hall->width > hall->height ? hall->width : hall->height);
  for (int32_t i = 0; i < p->agents; i++) {
    // the cells around it, from ahead on the left
    int32_t facing = s->facing[i], right_of = (facing + 1) & (RWARE_FACINGS - 1);
    int32_t ahead = RWARE_STEP_DOWN[facing] * RWARE_STRIDE + RWARE_STEP_RIGHT[facing];
    int32_t right = RWARE_STEP_DOWN[right_of] * RWARE_STRIDE + RWARE_STEP_RIGHT[right_of];
    const int8_t *line = &first[s->row[i] * RWARE_STRIDE + s->column[i]] + p->vision * (ahead - right);
    int8_t *seen = obs[i].window;
    for (int32_t y = 0; y < side; y++, line -= ahead) {
      const int8_t *cell = line;
      for (int32_t x = 0; x < side; x++, seen += 2, cell += right) {
        seen[0] = *cell & (RWARE_ROBOT - 1);
        if (*cell < RWARE_ROBOT) continue;
        int32_t robot = *cell / RWARE_ROBOT - RWARE_EMPTY_ROBOT, loaded = robot & RWARE_FACINGS;
        seen[1] = (int8_t)(RWARE_EMPTY_ROBOT + loaded + ((robot - facing) & (RWARE_FACINGS - 1)));
      }
    }
    obs[i].window[side * side] = RWARE_NO_ROBOT;  // itself

    // the way to the nearest goal
    int32_t down_to = 0, right_to = 0, far = hall->height + hall->width;
    for (int32_t g = 0; g < RWARE_GOALS; g++) {
      int32_t y = hall->goal_row[g] - s->row[i], x = hall->goal_column[g] - s->column[i];
      int32_t cells = (y < 0 ? -y : y) + (x < 0 ? -x : x);
      if (cells >= far) continue;
      far = cells;
      down_to = y;
      right_to = x;
    }

    obs[i].numbers[0] = (float)s->row[i] * per_cell;
    obs[i].numbers[1] = (float)s->column[i] * per_cell;
    obs[i].numbers[2] = (float)(down_to * RWARE_STEP_DOWN[facing] + right_to * RWARE_STEP_RIGHT[facing]) * per_cell;
    obs[i].numbers[3] = (float)(down_to * RWARE_STEP_DOWN[right_of] + right_to * RWARE_STEP_RIGHT[right_of]) * per_cell;
    obs[i].numbers[4 + facing] = 1.0f;
    obs[i].numbers[4 + RWARE_FACINGS + s->load[i]] = 1.0f;
  }
}


// what all have delivered together
static inline void rware_score(const rware_params *p, const rware_state *s, float *score) {
  int32_t shelves = 0;
  for (int32_t i = 0; i < p->agents; i++) shelves += s->delivered[i];
  for (int32_t i = 0; i < p->agents; i++) score[i] = (float)shelves;
}


static inline void rware_perf(const rware_params *p, const rware_state *s, float *perf) {
  rware_score(p, s, perf);
  float per_shelf = 1.0f / (float)(rware_hall(p)->good_deliveries * p->agents);
  for (int32_t i = 0; i < p->agents; i++) {
    float share = perf[i] * per_shelf;
    perf[i] = share < 1.0f ? share : 1.0f;
  }
}


static inline void rware_figures(const rware_params *p, const rware_state *s, rware_log *log) {
  for (int32_t i = 0; i < p->agents; i++) log[i].delivered_alone = (float)s->delivered[i];
}
