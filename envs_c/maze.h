// maze.h: find the way through a maze seen through a small window. Twin of envs_jax/maze.py.
//
// observation  uint8 (side * side), side = 2 * vision + 1: the tiles around the agent,
//              row by row, turned so that the agent looks up: entry 0 lies ahead on the
//              left, the middle one is the agent's own tile. 0 empty, 1 wall (also
//              outside the maze), 2 goal
// action       discrete   0 stay; turn and walk one tile: 1 forward, 2 right, 3 back, 4 left
// reward       +1 at the goal
// ends         terminated at the goal, truncated after max_steps
#pragma once

#include "env.h"

#define MAZE_MAX_SIZE 47   // tiles along one side
#define MAZE_MAX_VISION 8  // a row and its margins fit in two words: 47 + 2 * 8 <= 64 bits
#define MAZE_MAX_SIDE (2 * MAZE_MAX_VISION + 1)
#define MAZE_MAX_CELLS ((MAZE_MAX_SIZE / 2) * (MAZE_MAX_SIZE / 2))  // the tiles at odd rows and columns

enum { MAZE_STAY, MAZE_FORWARD, MAZE_RIGHT, MAZE_BACK, MAZE_LEFT };
enum { MAZE_NORTH, MAZE_EAST, MAZE_SOUTH, MAZE_WEST };
enum { MAZE_EMPTY, MAZE_WALL, MAZE_GOAL };

typedef struct {
  int32_t size;       // tiles along one side, odd
  int32_t vision;     // tiles seen in each direction
  float branching;    // probability to grow the maze from any cell, not from the newest
  int32_t max_steps;  // steps before truncation; 0: 2 * size * size
} maze_params;

typedef struct {
  uint32_t rng[2];
  uint32_t walls[2 * MAZE_MAX_SIZE];  // (words, size): bit vision + c of row r is tile (r, c), 1 a wall;
                                      // the bits outside the maze are 1
  int32_t row;                        // the agent's tile, from the top
  int32_t column;                     // from the left
  int32_t heading;                    // 0 north, 1 east, 2 south, 3 west
  int32_t steps;                      // since the episode began
} maze_state;


// words in a row of tiles with its margins
static inline int32_t maze_words(const maze_params *p) { return p->size + 2 * p->vision > 32 ? 2 : 1; }


// 32 tiles of a row from `shift` on, where 0 is the left edge of the margin
static inline uint32_t maze_tiles(const maze_params *p, const maze_state *s, int32_t row, int32_t shift) {
  if (maze_words(p) == 1) return s->walls[row] >> shift;
  uint64_t tiles = (uint64_t)s->walls[p->size + row] << 32 | s->walls[row];
  return (uint32_t)(tiles >> shift);
}


static inline int32_t maze_is_wall(const maze_params *p, const maze_state *s, int32_t row, int32_t column) {
  return (int32_t)(maze_tiles(p, s, row, column + p->vision) & 1u);
}


static inline void maze_carve(const maze_params *p, maze_state *s, int32_t row, int32_t column) {
  int32_t bit = column + p->vision;
  s->walls[(bit >> 5) * p->size + row] &= ~(1u << (bit & 31));
}


static inline int32_t maze_at_goal(const maze_params *p, const maze_state *s) {
  return s->row == p->size - 2 && s->column == p->size - 2;
}


// growing tree: each cell joins the list of active cells once and leaves it once
static inline void maze_grow(const maze_params *p, maze_state *s) {
  uint16_t active[MAZE_MAX_CELLS];  // row << 8 | column
  int32_t count = 1, last = p->size - 2;
  active[0] = 1 << 8 | 1;
  maze_carve(p, s, 1, 1);

  while (count > 0) {
    // grow from the newest cell, now and then from any
    int32_t anywhere = rng_bernoulli(s->rng, p->branching);
    int32_t any = rng_below(s->rng, count);
    int32_t i = anywhere ? any : count - 1;
    int32_t row = active[i] >> 8, column = active[i] & 255;

    // towards which neighbours? those that are still solid
    int32_t north = row > 1 && maze_is_wall(p, s, row - 2, column);
    int32_t east = column < last && maze_is_wall(p, s, row, column + 2);
    int32_t south = row < last && maze_is_wall(p, s, row + 2, column);
    int32_t west = column > 1 && maze_is_wall(p, s, row, column - 2);
    int32_t ways = north + east + south + west;
    int32_t way = rng_below(s->rng, ways);

    // none: the cell is done with, the newest takes its place in the list
    if (ways == 0) {
      active[i] = active[--count];
      continue;
    }

    // carve into one of them
    int32_t go_north = north && way == 0;
    int32_t go_east = east && way == north;
    int32_t go_south = south && way == north + east;
    int32_t go_west = west && way == north + east + south;
    int32_t down = go_south - go_north, right = go_east - go_west;
    maze_carve(p, s, row + down, column + right);
    maze_carve(p, s, row + 2 * down, column + 2 * right);
    active[count++] = (uint16_t)((row + 2 * down) << 8 | (column + 2 * right));
  }
}


static inline void maze_init(const maze_params *p, maze_state *s) {
  // a maze in solid rock
  for (int32_t i = 0; i < maze_words(p) * p->size; i++) s->walls[i] = 0xFFFFFFFFu;
  maze_grow(p, s);

  // the agent in its north-west corner
  s->row = 1;
  s->column = 1;
  s->heading = MAZE_EAST;
  s->steps = 0;
}


static inline void maze_transition(const maze_params *p, maze_state *s, const int32_t *action, outcome *out) {
  // turn, then walk unless a wall is in the way
  if (*action != MAZE_STAY) {
    s->heading = (s->heading + *action - MAZE_FORWARD) & 3;
    int32_t row = s->row + (s->heading == MAZE_SOUTH) - (s->heading == MAZE_NORTH);
    int32_t column = s->column + (s->heading == MAZE_EAST) - (s->heading == MAZE_WEST);
    if (!maze_is_wall(p, s, row, column)) {
      s->row = row;
      s->column = column;
    }
  }
  s->steps++;

  // is this the goal, or has time run out?
  int32_t at_goal = maze_at_goal(p, s);
  int32_t limit = p->max_steps > 0 ? p->max_steps : 2 * p->size * p->size;

  out->reward = at_goal ? 1.0f : 0.0f;
  out->terminated = at_goal;
  out->truncated = !at_goal && s->steps >= limit;
}


static inline void maze_observe(const maze_params *p, const maze_state *s, uint8_t *obs) {
  int32_t vision = p->vision, side = 2 * vision + 1;
  int32_t turned = s->heading == MAZE_EAST || s->heading == MAZE_WEST;

  // the rows around the agent, seen from the north; upside down when it looks south or west
  uint32_t rows[MAZE_MAX_SIDE];
  int32_t upside_down = s->heading == MAZE_SOUTH || s->heading == MAZE_WEST;
  for (int32_t i = 0; i < side; i++) {
    int32_t row = s->row + (upside_down ? vision - i : i - vision);
    rows[i] = row >= 0 && row < p->size ? maze_tiles(p, s, row, s->column) : 0xFFFFFFFFu;
  }

  // each column's bit in them; mirrored when it looks east or south
  uint32_t bits[MAZE_MAX_SIDE];
  int32_t mirrored = s->heading == MAZE_EAST || s->heading == MAZE_SOUTH;
  for (int32_t j = 0; j < side; j++) bits[j] = 1u << (mirrored ? side - 1 - j : j);

  // walls; looking east or west, rows and columns change places
  for (int32_t i = 0; i < side; i++)
    for (int32_t j = 0; j < side; j++)
      obs[i * side + j] = (turned ? rows[j] & bits[i] : rows[i] & bits[j]) ? MAZE_WALL : MAZE_EMPTY;

  // the goal, where it is in sight
  int32_t south = p->size - 2 - s->row, east = p->size - 2 - s->column;
  int32_t i = vision + (upside_down ? -south : south);
  int32_t j = vision + (mirrored ? -east : east);
  if (i >= 0 && i < side && j >= 0 && j < side) obs[turned ? j * side + i : i * side + j] = MAZE_GOAL;
}


static inline float maze_score(const maze_params *p, const maze_state *s) {
  return maze_at_goal(p, s) ? 1.0f : 0.0f;
}
