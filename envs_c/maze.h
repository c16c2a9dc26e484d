// maze.h: find the way through a maze seen through a small window. Twin of envs_jax/maze.py.
//
// observation  uint8 (side * side,): the tiles around the agent,
//              row by row, turned so that the agent looks up: entry 0 is ahead on the
//              left, the middle entry is the agent's own tile. 0 empty, 1 wall (also
//              outside the maze), 2 goal
// action       discrete   0 stay; turn and walk one tile: 1 forward, 2 right, 3 back, 4 left
// reward       +1 at the goal
// ends         terminated at the goal, truncated after max_steps
#pragma once

#include "env.h"

#define MAZE_MAX_SIZE 47   // tiles along one side
#define MAZE_MAX_VISION 8  // a row of tiles and its margins fit in two words: 47 + 2 * 8 <= 64 bits
#define MAZE_MAX_HEIGHT (MAZE_MAX_SIZE + 2 * MAZE_MAX_VISION)
#define MAZE_MAX_SIDE (2 * MAZE_MAX_VISION + 1)
#define MAZE_MAX_CELLS ((MAZE_MAX_SIZE / 2) * (MAZE_MAX_SIZE / 2))  // the tiles at odd rows and columns

#define MAZE_EIGHT_WALLS 0x0101010101010101u  // a byte per tile

enum { MAZE_STAY, MAZE_FORWARD, MAZE_RIGHT, MAZE_BACK, MAZE_LEFT };
enum { MAZE_NORTH, MAZE_EAST, MAZE_SOUTH, MAZE_WEST };
enum { MAZE_EMPTY, MAZE_WALL, MAZE_GOAL };

typedef struct {
  int32_t size;       // tiles along one side, odd
  int32_t vision;     // tiles seen in each direction
  float branching;    // probability to grow the maze from any cell, not from the newest
  int32_t max_steps;  // steps before truncation; 0: 2 * size * size
  int32_t levels;       // number of fixed mazes, of which each episode has one; 0: new ones
  int32_t first_level;  // number of the first of them
} maze_params;

typedef struct {
  uint32_t rng[2];
  uint32_t walls[2 * MAZE_MAX_HEIGHT];  // (words * height): bit vision + c of row vision + r is
                                        // tile (r, c): 1 a wall, also outside
  int32_t row;                          // the agent's tile, from the top
  int32_t column;                       // from the left
  int32_t heading;                      // 0 north, 1 east, 2 south, 3 west
  int32_t steps;                        // since the episode began
} maze_state;


// rows that a step goes down
static inline int32_t maze_down(int32_t heading) { return (heading == MAZE_SOUTH) - (heading == MAZE_NORTH); }


// columns that a step goes to the right
static inline int32_t maze_right(int32_t heading) { return (heading == MAZE_EAST) - (heading == MAZE_WEST); }


// rows and columns with their margins, into which the window may reach
static inline int32_t maze_height(const maze_params *p) { return p->size + 2 * p->vision; }


// words in a row of tiles with its margins
static inline int32_t maze_words(const maze_params *p) { return maze_height(p) > 32 ? 2 : 1; }


static inline int32_t maze_is_wall(const maze_params *p, const maze_state *s, int32_t row, int32_t column) {
  int32_t bit = column + p->vision;
  uint32_t word = s->walls[(bit >> 5) * maze_height(p) + row + p->vision];
  return (int32_t)(word >> (bit & 31) & 1u);
}


static inline void maze_carve(const maze_params *p, maze_state *s, int32_t row, int32_t column) {
  int32_t bit = column + p->vision;
  s->walls[(bit >> 5) * maze_height(p) + row + p->vision] &= ~(1u << (bit & 31));
}


// a row of tiles without its first `count` ones: the next 32
static inline uint32_t maze_shift(const maze_params *p, const uint32_t *row, int32_t count) {
  if (maze_words(p) == 1) return row[0] >> count;
  return (uint32_t)(((uint64_t)row[maze_height(p)] << 32 | row[0]) >> count);
}


static inline int32_t maze_at_goal(const maze_params *p, const maze_state *s) {
  return s->row == p->size - 2 && s->column == p->size - 2;
}


static inline int32_t maze_time_limit(const maze_params *p) {
  return p->max_steps > 0 ? p->max_steps : 2 * p->size * p->size;
}


// growing tree: each cell joins the list of active cells once and leaves it once
static inline void maze_grow(const maze_params *p, maze_state *s, uint32_t *stream) {
  uint16_t active[MAZE_MAX_CELLS];  // row << 8 | column
  int32_t count = 1, last = p->size - 2;
  active[0] = 1 << 8 | 1;
  maze_carve(p, s, 1, 1);

  while (count > 0) {
    // grow from the newest cell, sometimes from any
    int32_t anywhere = rng_bernoulli(stream, p->branching);
    int32_t any = rng_below(stream, count);
    int32_t i = anywhere ? any : count - 1;
    int32_t row = active[i] >> 8, column = active[i] & 255;

    // towards which neighbours? the ones that are still solid
    int32_t north = row > 1 && maze_is_wall(p, s, row - 2, column);
    int32_t east = column < last && maze_is_wall(p, s, row, column + 2);
    int32_t south = row < last && maze_is_wall(p, s, row + 2, column);
    int32_t west = column > 1 && maze_is_wall(p, s, row, column - 2);
    int32_t ways = north + east + south + west;
    int32_t way = rng_below(stream, ways);

    // none: the cell is finished, the newest takes its place in the list
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
  // a maze, carved into solid tiles
  uint32_t world[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  for (int32_t i = 0; i < maze_words(p) * maze_height(p); i++) s->walls[i] = 0xFFFFFFFFu;
  maze_grow(p, s, world);

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
    int32_t row = s->row + maze_down(s->heading), column = s->column + maze_right(s->heading);
    if (!maze_is_wall(p, s, row, column)) {
      s->row = row;
      s->column = column;
    }
  }
  s->steps++;

  // is this the goal, or has time run out?
  int32_t at_goal = maze_at_goal(p, s);

  out->reward = at_goal ? 1.0f : 0.0f;
  out->terminated = at_goal;
  out->truncated = !at_goal && s->steps >= maze_time_limit(p);
}


// the low eight bits as eight bytes of 0 or 1, in reverse order if `mirrored`
static inline uint64_t maze_spread(uint32_t bits, int32_t mirrored) {
  uint64_t one_bit_each = mirrored ? 0x0102040810204080u : 0x8040201008040201u;
  uint64_t bytes = (bits & 255u) * MAZE_EIGHT_WALLS & one_bit_each;
  return (bytes + 0x7F * MAZE_EIGHT_WALLS) >> 7 & MAZE_EIGHT_WALLS;
}


static inline void maze_observe(const maze_params *p, const maze_state *s, uint8_t *obs) {
  int32_t vision = p->vision, side = 2 * vision + 1;
  int32_t turned = s->heading == MAZE_EAST || s->heading == MAZE_WEST;

  // the rows around the agent from the window's left edge on, upside down when it looks south or west
  uint32_t rows[3 * 8] = {0};
  int32_t upside_down = s->heading == MAZE_SOUTH || s->heading == MAZE_WEST;
  for (int32_t i = 0; i < side; i++) {
    int32_t row = s->row + (upside_down ? side - 1 - i : i);
    rows[i] = maze_shift(p, &s->walls[row], s->column);
  }

  // walls, eight tiles at a time: the next row overwrites the bytes after a row's end
  int32_t mirrored = s->heading == MAZE_EAST || s->heading == MAZE_SOUTH;
  uint8_t tiles[MAZE_MAX_SIDE * MAZE_MAX_SIDE + 7];
  if (turned) {
    // looking east or west, rows and columns are exchanged: byte j of columns[b][k] holds
    // bits 8k to 8k + 7 of row 8b + j
    uint64_t columns[3][3] = {{0}};
    for (int32_t j = 0; j < side; j++)
      for (int32_t k = 0; 8 * k < side; k++)
        columns[j >> 3][k] |= (uint64_t)(rows[j] >> 8 * k & 255u) << 8 * (j & 7);
    for (int32_t i = 0; i < side; i++)
      for (int32_t j = 0; j < side; j += 8) {
        int32_t bit = mirrored ? side - 1 - i : i;
        uint64_t eight = columns[j >> 3][bit >> 3] >> (bit & 7) & MAZE_EIGHT_WALLS;
        memcpy(&tiles[i * side + j], &eight, 8);
      }
  } else {
    for (int32_t i = 0; i < side; i++)
      for (int32_t j = 0; j < side; j += 8) {
        uint64_t eight = maze_spread(mirrored ? rows[i] << (24 - side) >> (16 - j) : rows[i] >> j, mirrored);
        memcpy(&tiles[i * side + j], &eight, 8);
      }
  }
  memcpy(obs, tiles, (size_t)(side * side));

  // the goal, if it is in sight
  int32_t south = p->size - 2 - s->row, east = p->size - 2 - s->column;
  int32_t i = vision + (upside_down ? -south : south);
  int32_t j = vision + (mirrored ? -east : east);
  if (i >= 0 && i < side && j >= 0 && j < side) obs[turned ? j * side + i : i * side + j] = MAZE_GOAL;
}


static inline float maze_score(const maze_params *p, const maze_state *s) {
  return maze_at_goal(p, s) ? 1.0f : 0.0f;
}
