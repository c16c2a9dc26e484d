// tower_climb.h: climb a tower of blocks, and move the ones that bar the way. Twin of envs_jax/tower_climb.py.
//
// observation  window int8 (5, 5, 6), numbers float32 (7,): the cells around the climber, turned so that it
//              looks up: rows from 3 ahead to 1 behind, columns from 2 to the left to 2 to the right, levels
//              from 2 below to 3 above: 0 empty, 1 block, 2 goal, 3 outside the world; how far the goal is
//              ahead, to the right and above / 10, the height / 10, 1 if it hangs, 1 if a block has been moved
//              since the last new row, share of the time left
// action       discrete   0 stay, 1 forward, 2 right, 3 back, 4 left, 5 push, 6 pull
// reward       climb_reward for each new row, fall_reward for going down, illegal_reward for an action that does
//              nothing, move_reward for the first block moved since the last new row, goal_reward, death_reward
// ends         terminated on the goal, after a fall to the ground and under a block; truncated after max_steps
#pragma once

#include "env.h"

enum {
  TOWER_CLIMB_STAY,
  TOWER_CLIMB_FORWARD,
  TOWER_CLIMB_RIGHT,
  TOWER_CLIMB_BACK,
  TOWER_CLIMB_LEFT,
  TOWER_CLIMB_PUSH,
  TOWER_CLIMB_PULL,
};
enum { TOWER_CLIMB_NORTH, TOWER_CLIMB_EAST, TOWER_CLIMB_SOUTH, TOWER_CLIMB_WEST };
enum { TOWER_CLIMB_EMPTY, TOWER_CLIMB_BLOCK, TOWER_CLIMB_GOAL, TOWER_CLIMB_OUTSIDE };

enum {
  TOWER_CLIMB_SIZE = 10,    // cells along one side of the world
  TOWER_CLIMB_LEVELS = 10,  // cells from the ground up
  TOWER_CLIMB_FIRST = 3,    // row and column of the first cells, after a margin that the window reaches into
  TOWER_CLIMB_LAST = TOWER_CLIMB_FIRST + TOWER_CLIMB_SIZE - 1,
  TOWER_CLIMB_STRIDE = 16,  // columns in a row, with both margins
  TOWER_CLIMB_COLUMNS = TOWER_CLIMB_STRIDE * TOWER_CLIMB_STRIDE,
  TOWER_CLIMB_STRETCHES = 4,
  TOWER_CLIMB_ORDERS = 0x3569AC,  // four bits with two of them set, in all six ways
  TOWER_CLIMB_UNSET = -1,         // a column that the way does not use
  TOWER_CLIMB_PUSHED = 2,         // blocks in a row that can be pushed

  // the window: its side, and its levels; how far it reaches
  TOWER_CLIMB_SIDE = 5,
  TOWER_CLIMB_SEEN = 6,
  TOWER_CLIMB_AHEAD = 3,
  TOWER_CLIMB_ASIDE = 2,
  TOWER_CLIMB_BELOW = 2,
};

#define TOWER_CLIMB_PER_CELL 0.1f
#define TOWER_CLIMB_EIGHT 0x0101010101010101u  // a byte per level

typedef struct {
  int32_t stretches;     // of the way to the goal, each two rows up
  float puzzles;         // probability that a stretch needs a block to be moved
  float gaps;            // probability that a stretch begins with a gap
  float clutter;         // share of the other columns that have blocks
  float climb_reward;    // for each new row
  float fall_reward;     // for going down
  float illegal_reward;  // for an action that does nothing
  float move_reward;     // for the first block moved since the last new row
  float goal_reward;
  float death_reward;
  int32_t max_steps;     // steps before truncation
  int32_t levels;        // number of fixed towers, of which each episode has one; 0: new ones
  int32_t first_level;   // number of the first of them
} tower_climb_params;

typedef struct {
  uint32_t rng[2];
  int16_t columns[TOWER_CLIMB_COLUMNS];  // row by row from the north: bit k is set if there is a block on level k
  int32_t cell;                          // the climber's column
  int32_t height;                        // the level that it is on
  int32_t facing;                        // 0 north, 1 east, 2 south, 3 west
  int32_t hanging;                       // 1 if it hangs on the block ahead
  int32_t goal;                          // column of the goal, the block that ends the way
  int32_t highest;                       // the highest row that it has stood on
  int32_t moved;                         // 1 if it has moved a block since it stood there first
  int32_t steps;                         // since the episode began
} tower_climb_state;

typedef struct {
  int8_t window[TOWER_CLIMB_SIDE * TOWER_CLIMB_SIDE * TOWER_CLIMB_SEEN + 2];
  float numbers[7];
} tower_climb_obs;

typedef struct {
  float solved;  // 1 on the goal
} tower_climb_log;


// rows that a step in a direction goes down
static inline int32_t tower_climb_down(int32_t direction) {
  return (direction == TOWER_CLIMB_SOUTH) - (direction == TOWER_CLIMB_NORTH);
}


// columns that a step in a direction goes to the right
static inline int32_t tower_climb_right(int32_t direction) {
  return (direction == TOWER_CLIMB_EAST) - (direction == TOWER_CLIMB_WEST);
}


// from a cell to the next in a direction
static inline int32_t tower_climb_step(int32_t direction) {
  return TOWER_CLIMB_STRIDE * tower_climb_down(direction) + tower_climb_right(direction);
}


static inline int32_t tower_climb_inside(int32_t cell) {
  int32_t row = cell / TOWER_CLIMB_STRIDE, column = cell % TOWER_CLIMB_STRIDE;
  return row >= TOWER_CLIMB_FIRST && row <= TOWER_CLIMB_LAST && column >= TOWER_CLIMB_FIRST &&
         column <= TOWER_CLIMB_LAST;
}


// rows from the start to the goal, and the level of that block
static inline int32_t tower_climb_rows(const tower_climb_params *p) { return 2 * p->stretches; }


// is there a block on a level of a column? on two levels below the ground there is none
static inline int32_t tower_climb_block(const tower_climb_state *s, int32_t cell, int32_t level) {
  return s->columns[cell] << 2 >> (level + 2) & 1;
}


// the lowest level from which there is no block down to another level: where something falls to from there
static inline int32_t tower_climb_rest(int32_t column, int32_t level) {
  uint32_t below = (uint32_t)column & ((1u << level) - 1);
  return 31 - __builtin_clz(2 * below + 1);
}


// blocks that hold one above them in this column
static inline int32_t tower_climb_around(const tower_climb_state *s, int32_t cell) {
  return s->columns[cell] | s->columns[cell - 1] | s->columns[cell + 1] | s->columns[cell - TOWER_CLIMB_STRIDE] |
         s->columns[cell + TOWER_CLIMB_STRIDE];
}


static inline int32_t tower_climb_is_goal(const tower_climb_params *p, const tower_climb_state *s, int32_t cell,
                                          int32_t level) {
  return cell == s->goal && level == tower_climb_rows(p);
}


static inline int32_t tower_climb_at_goal(const tower_climb_params *p, const tower_climb_state *s) {
  return tower_climb_is_goal(p, s, s->cell, s->height - 1);
}


// to the next cell in a direction, which is free: on the same level, one down, or over the edge to hang there
static inline void tower_climb_go(tower_climb_state *s, int32_t direction) {
  s->cell += tower_climb_step(direction);
  if (tower_climb_block(s, s->cell, s->height - 1)) return;
  s->height--;
  if (tower_climb_block(s, s->cell, s->height - 1)) return;
  s->hanging = 1;
  s->facing = (direction + 2) & 3;
}


// walk, climb or hang over the edge ahead: was it possible?
static inline int32_t tower_climb_forward(tower_climb_state *s) {
  int32_t ahead = s->cell + tower_climb_step(s->facing), above = s->height + 1;
  if (!tower_climb_inside(ahead)) return 0;
  if (!tower_climb_block(s, ahead, s->height)) {
    tower_climb_go(s, s->facing);
    return 1;
  }

  // onto the block ahead, if there is room above both
  if (above >= TOWER_CLIMB_LEVELS || tower_climb_block(s, ahead, above) || tower_climb_block(s, s->cell, above))
    return 0;
  s->cell = ahead;
  s->height = above;
  s->hanging = 0;
  return 1;
}


// hand over hand to one side: was it possible?
static inline int32_t tower_climb_shimmy(tower_climb_state *s, int32_t direction) {
  int32_t beside = s->cell + tower_climb_step(direction), corner = beside + tower_climb_step(s->facing);
  if (tower_climb_block(s, beside, s->height)) {
    // onto the block there
    s->facing = direction;
  } else if (!tower_climb_inside(beside)) {
    return 0;
  } else if (tower_climb_block(s, corner, s->height)) {
    // along the wall
    s->cell = beside;
  } else {
    // round the corner of the block that it hangs on
    s->cell = corner;
    s->facing = (direction + 2) & 3;
  }
  return 1;
}


// let go: down to the next block, or to the ground, which is level 0
static inline void tower_climb_let_go(tower_climb_state *s) {
  s->height = tower_climb_rest(s->columns[s->cell], s->height);
  s->hanging = 0;
}


// a push moves one block ahead, or two in a row: the cell that is filled by it, or 0 if there is none
static inline int32_t tower_climb_push_to(const tower_climb_params *p, const tower_climb_state *s) {
  int32_t step = tower_climb_step(s->facing), cell = s->cell + step;
  for (int32_t pushed = 0; pushed <= TOWER_CLIMB_PUSHED; pushed++, cell += step) {
    if (tower_climb_is_goal(p, s, cell, s->height)) return 0;
    if (!tower_climb_block(s, cell, s->height)) return pushed > 0 && tower_climb_inside(cell) ? cell : 0;
  }
  return 0;
}


// a pull moves the block ahead to where the climber is, who goes back: that cell, or 0 if it cannot
static inline int32_t tower_climb_pull_to(const tower_climb_params *p, const tower_climb_state *s) {
  int32_t step = tower_climb_step(s->facing), ahead = s->cell + step, behind = s->cell - step;
  if (!tower_climb_block(s, ahead, s->height) || tower_climb_is_goal(p, s, ahead, s->height)) return 0;
  return tower_climb_inside(behind) && !tower_climb_block(s, behind, s->height) ? s->cell : 0;
}


// blocks of a column that nothing holds; the goal always holds
static inline int32_t tower_climb_loose(const tower_climb_params *p, const tower_climb_state *s, int32_t cell) {
  int32_t held = tower_climb_around(s, cell) << 1 | 1 | (cell == s->goal) << tower_climb_rows(p);
  return s->columns[cell] & ~held;
}


// they fall, all together level by level, if there is one in a column or beside it
static inline void tower_climb_settle(const tower_climb_params *p, tower_climb_state *s, int32_t cell) {
  int32_t first = TOWER_CLIMB_FIRST * TOWER_CLIMB_STRIDE, last = TOWER_CLIMB_COLUMNS - first;
  int32_t any = tower_climb_loose(p, s, cell) | tower_climb_loose(p, s, cell - 1) | tower_climb_loose(p, s, cell + 1) |
                tower_climb_loose(p, s, cell - TOWER_CLIMB_STRIDE) | tower_climb_loose(p, s, cell + TOWER_CLIMB_STRIDE);
  uint16_t loose[TOWER_CLIMB_COLUMNS];
  while (any) {
    for (int32_t i = first; i < last; i++) loose[i] = (uint16_t)tower_climb_loose(p, s, i);
    any = 0;
    for (int32_t i = first; i < last; i++) {
      s->columns[i] = (int16_t)((s->columns[i] & ~loose[i]) | loose[i] >> 1);
      any |= loose[i];
    }
  }
}


// a way from the start to the goal: what is not on it stays unset
static inline void tower_climb_lay(const tower_climb_params *p, tower_climb_state *s, const uint32_t *key) {
  // it goes in two directions, of each two stretches at most, so that it has room and never meets itself
  uint32_t drawn = rng_at(key, TOWER_CLIMB_COLUMNS);
  int32_t order = TOWER_CLIMB_ORDERS >> 4 * ((drawn >> 24) * 6 >> 8);
  int32_t direction = (int32_t)(drawn & 3);
  int32_t step[2] = {tower_climb_step(direction), tower_climb_step((direction + 1 + (int32_t)(drawn >> 1 & 2)) & 3)};

  // it begins in the corner behind both, or a cell from there
  s->cell = 0;
  for (int32_t a = 0; a < 2; a++) {
    s->cell += step[a] > 0 ? TOWER_CLIMB_FIRST * step[a] : -TOWER_CLIMB_LAST * step[a];
    s->cell += (int32_t)(drawn >> (3 + a) & 1) * step[a];
  }
  s->height = 1;
  s->facing = (int32_t)(drawn >> 5 & 3);
  s->columns[s->cell] = 1;

  int32_t cell = s->cell;
  for (int32_t i = 0; i < p->stretches; i++) {
    int32_t height = 1 + 2 * i, ahead = step[order >> i & 1], aside = step[~order >> i & 1];
    uint32_t kind = rng_at(key, TOWER_CLIMB_COLUMNS + 1 + 2 * i), start = rng_at(key, TOWER_CLIMB_COLUMNS + 2 + 2 * i);
    int32_t puzzle = rng_unit(kind) < p->puzzles, push = puzzle && (kind & 1);
    int16_t floor = (int16_t)((1 << height) - 1);

    // a gap, and beside it a stone to hang on
    if (!push && rng_unit(start) < p->gaps) {
      int32_t gap = cell + ahead;
      s->columns[gap] = 0;
      s->columns[tower_climb_inside(gap + aside) ? gap + aside : gap - aside] = floor;
      cell = gap + ahead;
      s->columns[cell] = floor;
    }

    // two steps; or a block to pull out of a wall; or one to push over a gap to a wall
    s->columns[cell + ahead] = puzzle && !push ? floor : (int16_t)(2 * floor + 1);
    if (push) s->columns[cell + 2 * ahead] = 0;
    cell += (2 + push) * ahead;
    s->columns[cell] = (int16_t)(4 * floor + 3);
  }
  s->goal = cell;
}


static inline void tower_climb_init(const tower_climb_params *p, tower_climb_state *s) {
  uint32_t world[2], key[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  rng_key(world, key);
  for (int32_t i = 0; i < TOWER_CLIMB_COLUMNS; i++)
    s->columns[i] = tower_climb_inside(i) ? TOWER_CLIMB_UNSET : 0;
  tower_climb_lay(p, s, key);

  // blocks in some of the columns that the way does not use, up to the goal's level at most
  for (int32_t i = 0; i < TOWER_CLIMB_COLUMNS; i++) {
    if (s->columns[i] != TOWER_CLIMB_UNSET) continue;
    uint32_t drawn = rng_at(key, i);
    int32_t blocks = 1 + ((int32_t)(drawn & 255) * tower_climb_rows(p) >> 8);
    s->columns[i] = rng_unit(drawn) < p->clutter ? (int16_t)((1 << blocks) - 1) : 0;
  }

  s->hanging = 0;
  s->highest = 0;
  s->moved = 0;
  s->steps = 0;
}


static inline void tower_climb_transition(const tower_climb_params *p, tower_climb_state *s, const int32_t *action,
                                          outcome *out) {
  int32_t turn = *action - TOWER_CLIMB_FORWARD, before = s->height, legal = 1, moved = 0;
  if (*action == TOWER_CLIMB_FORWARD) {
    legal = tower_climb_forward(s);
  } else if (*action == TOWER_CLIMB_PUSH || *action == TOWER_CLIMB_PULL) {
    // move a block, if it stands
    int32_t push = *action == TOWER_CLIMB_PUSH, ahead = s->cell + tower_climb_step(s->facing);
    int32_t to = s->hanging ? 0 : push ? tower_climb_push_to(p, s) : tower_climb_pull_to(p, s);
    legal = moved = to != 0;
    if (moved) {
      // it falls until another one holds it, and then those that it held
      s->columns[ahead] ^= (int16_t)(1 << s->height);
      s->columns[to] |= (int16_t)(1 << tower_climb_rest(tower_climb_around(s, to), s->height));
      if (!push) tower_climb_go(s, (s->facing + 2) & 3);
      tower_climb_settle(p, s, ahead);
    }
  } else if (*action != TOWER_CLIMB_STAY && !s->hanging) {
    // turn
    s->facing = (s->facing + turn) & 3;
  } else if (*action == TOWER_CLIMB_BACK) {
    tower_climb_let_go(s);
  } else if (*action != TOWER_CLIMB_STAY) {
    legal = tower_climb_shimmy(s, (s->facing + turn) & 3);
  }
  s->steps++;

  // on the goal, on the ground, or under a block?
  int32_t at_goal = tower_climb_at_goal(p, s);
  int32_t dead = (!s->hanging && s->height == 0) || tower_climb_block(s, s->cell, s->height);

  // what is new: a row, or a block that was moved
  int32_t new_row = s->height - 1 > s->highest;
  int32_t new_move = moved && !s->moved;
  if (new_row) s->highest = s->height - 1;
  s->moved = new_row ? 0 : s->moved || moved;

  float reward = new_row ? p->climb_reward : 0.0f;
  reward += at_goal ? p->goal_reward : 0.0f;
  reward += s->height < before ? p->fall_reward : 0.0f;
  reward += new_move ? p->move_reward : 0.0f;
  reward += legal ? 0.0f : p->illegal_reward;
  out->reward = dead ? p->death_reward : reward;
  out->terminated = dead || at_goal;
  out->truncated = s->steps >= p->max_steps;
}


// the low eight bits as eight bytes of 0 or 1
static inline uint64_t tower_climb_spread(uint32_t bits) {
  uint64_t bytes = (bits & 255u) * TOWER_CLIMB_EIGHT & 0x8040201008040201u;
  return (bytes + 0x7F * TOWER_CLIMB_EIGHT) >> 7 & TOWER_CLIMB_EIGHT;
}


static inline void tower_climb_observe(const tower_climb_params *p, const tower_climb_state *s, tower_climb_obs *obs) {
  // the columns around it, eight levels of each: the next column overwrites what is too much. A climber that somebody
  // has put outside the world or below it sees nothing of it
  int32_t there = tower_climb_inside(s->cell) && s->height >= 0;
  int32_t ahead = tower_climb_step(s->facing), right = tower_climb_step((s->facing + 1) & 3);
  for (int32_t i = 0; i < TOWER_CLIMB_SIDE; i++)
    for (int32_t j = 0; j < TOWER_CLIMB_SIDE; j++) {
      int32_t cell = s->cell + (TOWER_CLIMB_AHEAD - i) * ahead + (j - TOWER_CLIMB_ASIDE) * right;
      uint64_t tiles = TOWER_CLIMB_OUTSIDE * TOWER_CLIMB_EIGHT;
      if (there && tower_climb_inside(cell)) {
        uint32_t levels = (uint32_t)(s->columns[cell] << TOWER_CLIMB_BELOW >> s->height);
        tiles = tower_climb_spread(levels & ((1u << TOWER_CLIMB_SEEN) - 1));
      }
      memcpy(&obs->window[(i * TOWER_CLIMB_SIDE + j) * TOWER_CLIMB_SEEN], &tiles, 8);
    }

  // the goal, if it is in sight
  int32_t south = s->goal / TOWER_CLIMB_STRIDE - s->cell / TOWER_CLIMB_STRIDE;
  int32_t east = s->goal % TOWER_CLIMB_STRIDE - s->cell % TOWER_CLIMB_STRIDE;
  int32_t goal_ahead = south * tower_climb_down(s->facing) + east * tower_climb_right(s->facing);
  int32_t goal_right = east * -tower_climb_down(s->facing) + south * tower_climb_right(s->facing);
  int32_t goal_above = tower_climb_rows(p) - s->height;
  int32_t i = TOWER_CLIMB_AHEAD - goal_ahead, j = TOWER_CLIMB_ASIDE + goal_right, k = TOWER_CLIMB_BELOW + goal_above;
  if (there && i >= 0 && i < TOWER_CLIMB_SIDE && j >= 0 && j < TOWER_CLIMB_SIDE && k >= 0 && k < TOWER_CLIMB_SEEN)
    obs->window[(i * TOWER_CLIMB_SIDE + j) * TOWER_CLIMB_SEEN + k] = TOWER_CLIMB_GOAL;

  obs->numbers[0] = (float)goal_ahead * TOWER_CLIMB_PER_CELL;
  obs->numbers[1] = (float)goal_right * TOWER_CLIMB_PER_CELL;
  obs->numbers[2] = (float)goal_above * TOWER_CLIMB_PER_CELL;
  obs->numbers[3] = (float)s->height * TOWER_CLIMB_PER_CELL;
  obs->numbers[4] = (float)s->hanging;
  obs->numbers[5] = (float)s->moved;
  obs->numbers[6] = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
}


static inline float tower_climb_score(const tower_climb_params *p, const tower_climb_state *s) {
  (void)p;
  return (float)s->highest;
}


static inline float tower_climb_perf(const tower_climb_params *p, const tower_climb_state *s) {
  return (float)s->highest * (1.0f / (float)tower_climb_rows(p));
}


static inline void tower_climb_figures(const tower_climb_params *p, const tower_climb_state *s, tower_climb_log *log) {
  log->solved = tower_climb_at_goal(p, s) ? 1.0f : 0.0f;
}
