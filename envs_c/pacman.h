// pacman.h: eat all the pills of a maze in which four ghosts hunt. Twin of envs_jax/pacman.py.
//
// observation  window int8 (9, 9), blocks float32 (7, 7), numbers float32 (26,):
//              the tiles around the player, with ghosts; the pills left in the blocks of 8 by 7 tiles around its own;
//              its direction and place, fear, period and time left, and where each ghost is
// action       discrete   0 up, 1 down, 2 left, 3 right
// reward       +1 for each dot, power pill and ghost eaten
// ends         terminated when a ghost catches the player or all pills are eaten, truncated after max_steps
#pragma once

#include "env.h"

enum { PACMAN_UP, PACMAN_DOWN, PACMAN_LEFT, PACMAN_RIGHT };
enum { PACMAN_BLINKY, PACMAN_PINKY, PACMAN_INKY, PACMAN_CLYDE, PACMAN_GHOSTS };
enum { PACMAN_NORMAL, PACMAN_FRIGHTENED, PACMAN_EYES };  // a ghost's mode; eyes: eaten, on its way home

// a tile of the window; PACMAN_GHOST + its direction is a ghost that is not frightened
enum { PACMAN_FLOOR, PACMAN_WALL, PACMAN_DOT, PACMAN_POWER_PILL, PACMAN_PREY, PACMAN_GHOST };

enum {
  PACMAN_HEIGHT = 31,  // tiles
  PACMAN_WIDTH = 28,
  PACMAN_PILLS = 244,  // the power pills included
  PACMAN_DOTS = 240,
  PACMAN_VISION = 4,  // tiles seen in each direction
  PACMAN_SIDE = 2 * PACMAN_VISION + 1,
  PACMAN_BLOCK_ROWS = 8,
  PACMAN_BLOCK_COLUMNS = 7,
  PACMAN_BLOCKS = 4,       // along one side
  PACMAN_FULL_BLOCK = 22,  // most pills in a block
  PACMAN_BLOCKS_SIDE = 2 * PACMAN_BLOCKS - 1,

  // the tile above the door of the ghosts' house, and the one in the house that eyes come to
  PACMAN_DOOR_ROW = 11,
  PACMAN_DOOR_COLUMN = 13,
  PACMAN_HOME_ROW = 14,
  PACMAN_HOUSE_TOP = 12,
  PACMAN_HOUSE_BOTTOM = 15,
  PACMAN_HOUSE_LEFT = 11,
  PACMAN_HOUSE_RIGHT = 16,

  PACMAN_POWER_ROW_1 = 3,  // with power pills
  PACMAN_POWER_ROW_2 = 23,
  PACMAN_START_ROW = 23,  // of the player
  PACMAN_START_COLUMN = 13,
  PACMAN_CLYDE_RADIUS = 8,  // tiles
  PACMAN_FAR = 1000000,     // more than any squared distance
  PACMAN_NUMBERS = 26,
};

// of equally near ways a ghost takes the first
static const int32_t PACMAN_ORDER[] = {PACMAN_UP, PACMAN_LEFT, PACMAN_DOWN, PACMAN_RIGHT};

// where each ghost starts, how far ahead of the player it aims, and the corner to which it scatters
static const int32_t PACMAN_GHOST_ROW[] = {PACMAN_DOOR_ROW, PACMAN_HOME_ROW, PACMAN_HOME_ROW, PACMAN_HOME_ROW};
static const int32_t PACMAN_GHOST_COLUMN[] = {PACMAN_DOOR_COLUMN, PACMAN_DOOR_COLUMN, 11, 15};
static const int32_t PACMAN_GHOST_DIRECTION[] = {PACMAN_LEFT, PACMAN_UP, PACMAN_RIGHT, PACMAN_LEFT};
static const int32_t PACMAN_LEAD[] = {0, 4, 2, 0};  // tiles
static const int32_t PACMAN_CORNER_ROW[] = {-3, -3, 31, 31};
static const int32_t PACMAN_CORNER_COLUMN[] = {25, 2, 27, 0};

// the maze: bit c of a row is its column c; above and below it a margin of walls. # wall, . dot, o power pill,
// - door, = the house; door and house are closed to all who are outside
typedef struct {
  uint32_t walls, pills;
} pacman_row;

static const pacman_row PACMAN_ROWS[PACMAN_HEIGHT + 2 * PACMAN_VISION] = {
  {0xFFFFFFF, 0}, {0xFFFFFFF, 0}, {0xFFFFFFF, 0}, {0xFFFFFFF, 0},
  {0xFFFFFFF, 0x0000000},  // ############################
  {0x8006001, 0x7FF9FFE},  // #............##............#
  {0xBDF6FBD, 0x4209042},  // #.####.#####.##.#####.####.#
  {0xBDF6FBD, 0x4209042},  // #o####.#####.##.#####.####o#
  {0xBDF6FBD, 0x4209042},  // #.####.#####.##.#####.####.#
  {0x8000001, 0x7FFFFFE},  // #..........................#
  {0xBDBFDBD, 0x4240242},  // #.####.##.########.##.####.#
  {0xBDBFDBD, 0x4240242},  // #.####.##.########.##.####.#
  {0x8186181, 0x7E79E7E},  // #......##....##....##......#
  {0xFDF6FBF, 0x0200040},  // ######.##### ## #####.######
  {0xFDF6FBF, 0x0200040},  // ######.##### ## #####.######
  {0xFD801BF, 0x0200040},  // ######.##          ##.######
  {0xFDBFDBF, 0x0200040},  // ######.## ###--### ##.######
  {0xFDBFDBF, 0x0200040},  // ######.## #======# ##.######
  {0x003FC00, 0x0200040},  //       .   #======#   .
  {0xFDBFDBF, 0x0200040},  // ######.## #======# ##.######
  {0xFDBFDBF, 0x0200040},  // ######.## ######## ##.######
  {0xFD801BF, 0x0200040},  // ######.##          ##.######
  {0xFDBFDBF, 0x0200040},  // ######.## ######## ##.######
  {0xFDBFDBF, 0x0200040},  // ######.## ######## ##.######
  {0x8006001, 0x7FF9FFE},  // #............##............#
  {0xBDF6FBD, 0x4209042},  // #.####.#####.##.#####.####.#
  {0xBDF6FBD, 0x4209042},  // #.####.#####.##.#####.####.#
  {0x8C00031, 0x73F9FCE},  // #o..##.......  .......##..o#
  {0xEDBFDB7, 0x1240248},  // ###.##.##.########.##.##.###
  {0xEDBFDB7, 0x1240248},  // ###.##.##.########.##.##.###
  {0x8186181, 0x7E79E7E},  // #......##....##....##......#
  {0xBFF6FFD, 0x4009002},  // #.##########.##.##########.#
  {0xBFF6FFD, 0x4009002},  // #.##########.##.##########.#
  {0x8000001, 0x7FFFFFE},  // #..........................#
  {0xFFFFFFF, 0x0000000},  // ############################
  {0xFFFFFFF, 0}, {0xFFFFFFF, 0}, {0xFFFFFFF, 0}, {0xFFFFFFF, 0},
};
static const uint32_t PACMAN_POWER_COLUMNS = 0x4000002;  // in the two rows that have power pills
static const int32_t PACMAN_BLOCK_PILLS[] = {22, 18, 18, 22, 13, 4, 4, 13, 18, 14, 14, 18, 18, 15, 15, 18};

typedef struct {
  int32_t scatter_steps;     // length of a scatter period
  int32_t chase_steps;       // length of a chase period
  int32_t scatters;          // scatter periods; after the last the ghosts chase for good
  int32_t frightened_steps;  // steps for which a power pill frightens the ghosts
  int32_t max_wait;          // most steps that a ghost waits before it first moves
  int32_t random_start;      // 1: the player starts on a random dot's tile
  int32_t max_steps;         // steps before truncation
  int32_t levels;            // number of fixed starts, of which each episode has one; 0: new ones
  int32_t first_level;       // number of the first of them
} pacman_params;

typedef struct {
  uint32_t rng[2];
  uint32_t pills[PACMAN_HEIGHT + 2 * PACMAN_VISION];  // bit c of row VISION + r: 1 if there is one on tile (r, c)
  int32_t left[PACMAN_BLOCKS * PACMAN_BLOCKS];        // pills in each block
  int32_t row;                                        // the player's tile, from the top
  int32_t column;                                     // from the left
  int32_t direction;                                  // in which it last went
  int32_t ghost_row[PACMAN_GHOSTS];
  int32_t ghost_column[PACMAN_GHOSTS];
  int32_t ghost_direction[PACMAN_GHOSTS];
  int32_t ghost_mode[PACMAN_GHOSTS];  // 0 normal, 1 frightened, 2 eyes
  int32_t ghost_wait[PACMAN_GHOSTS];  // steps until it first moves
  int32_t periods;                    // that have ended: after an even number the ghosts scatter
  int32_t period_left;                // steps
  int32_t frightened;                 // steps, this one included, for which ghosts are
  int32_t pills_eaten;
  int32_t ghosts_eaten;
  int32_t steps;  // since the episode began
} pacman_state;

typedef struct {
  int8_t window[PACMAN_SIDE * PACMAN_SIDE + 3];
  float blocks[PACMAN_BLOCKS_SIDE * PACMAN_BLOCKS_SIDE];
  float numbers[PACMAN_NUMBERS];
} pacman_obs;

typedef struct {
  float cleared;  // 1 if all pills are eaten
  float ghosts_eaten;
} pacman_log;


// rows that a step goes down
static inline int32_t pacman_down(int32_t direction) { return (direction == PACMAN_DOWN) - (direction == PACMAN_UP); }


// columns that it goes to the right
static inline int32_t pacman_right(int32_t direction) {
  return (direction == PACMAN_RIGHT) - (direction == PACMAN_LEFT);
}


// the column that it leads to: beyond a side it is the other side's
static inline int32_t pacman_beside(int32_t column, int32_t direction) {
  column += pacman_right(direction);
  return column < 0 ? PACMAN_WIDTH - 1 : column == PACMAN_WIDTH ? 0 : column;
}


static inline int32_t pacman_is_open(int32_t row, int32_t column) {
  return (PACMAN_ROWS[PACMAN_VISION + row].walls >> column & 1u) == 0;
}


// the directions in which a step leads on from a tile: bit d is direction d
static inline int32_t pacman_exits(int32_t row, int32_t column) {
  // in the house there is one way: to the door's column, and up
  if (row >= PACMAN_HOUSE_TOP && row <= PACMAN_HOUSE_BOTTOM && column >= PACMAN_HOUSE_LEFT &&
      column <= PACMAN_HOUSE_RIGHT)
    return 1 << (column < PACMAN_DOOR_COLUMN ? PACMAN_RIGHT : column > PACMAN_DOOR_COLUMN ? PACMAN_LEFT : PACMAN_UP);

  int32_t exits = 0;
  for (int32_t d = 0; d < 4; d++) exits |= pacman_is_open(row + pacman_down(d), pacman_beside(column, d)) << d;
  return exits;
}


// the power pills of a row at the start
static inline uint32_t pacman_power_pills(int32_t row) {
  return row == PACMAN_POWER_ROW_1 || row == PACMAN_POWER_ROW_2 ? PACMAN_POWER_COLUMNS : 0;
}


static inline void pacman_init(const pacman_params *p, pacman_state *s) {
  // all pills
  for (int32_t i = 0; i < PACMAN_HEIGHT + 2 * PACMAN_VISION; i++) s->pills[i] = PACMAN_ROWS[i].pills;
  memcpy(s->left, PACMAN_BLOCK_PILLS, sizeof s->left);
  s->pills_eaten = s->ghosts_eaten = 0;

  // the player at its place, or where a random dot is
  uint32_t world[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  int32_t dot = rng_below(world, PACMAN_DOTS);
  s->row = PACMAN_START_ROW;
  s->column = PACMAN_START_COLUMN;
  for (int32_t tile = 0; p->random_start && dot >= 0; tile++) {
    int32_t row = tile / PACMAN_WIDTH, column = tile % PACMAN_WIDTH;
    dot -= (int32_t)((s->pills[PACMAN_VISION + row] & ~pacman_power_pills(row)) >> column & 1u);
    s->row = row;
    s->column = column;
  }
  s->direction = PACMAN_LEFT;

  // the ghosts, each with a time to wait
  for (int32_t i = 0; i < PACMAN_GHOSTS; i++) {
    s->ghost_row[i] = PACMAN_GHOST_ROW[i];
    s->ghost_column[i] = PACMAN_GHOST_COLUMN[i];
    s->ghost_direction[i] = PACMAN_GHOST_DIRECTION[i];
    s->ghost_mode[i] = PACMAN_NORMAL;
    s->ghost_wait[i] = rng_below(world, p->max_wait + 1);
  }
  s->periods = 0;
  s->period_left = p->scatter_steps;
  s->frightened = 0;
  s->steps = 0;
}


// scatter and chase periods; their time stands still while ghosts are frightened. Do the ghosts turn round?
static inline int32_t pacman_tick(const pacman_params *p, pacman_state *s) {
  if (s->frightened > 0) {
    s->frightened--;
    for (int32_t i = 0; i < PACMAN_GHOSTS && s->frightened == 0; i++)
      if (s->ghost_mode[i] == PACMAN_FRIGHTENED) s->ghost_mode[i] = PACMAN_NORMAL;
    return 0;
  }
  int32_t over = s->period_left == 0 && s->periods < 2 * p->scatters - 1;
  if (over) {
    s->periods++;
    s->period_left = s->periods % 2 == 0 ? p->scatter_steps : p->chase_steps;
  }
  if (s->period_left > 0) s->period_left--;
  return over;
}


// the player moves in the new direction, or in its old one if a wall blocks that
static inline void pacman_move(pacman_state *s, int32_t action) {
  int32_t exits = pacman_exits(s->row, s->column);
  if (exits >> action & 1) s->direction = action;
  if (exits >> s->direction & 1) {
    s->row += pacman_down(s->direction);
    s->column = pacman_beside(s->column, s->direction);
  }
}


// the player eats the pill on its tile: returns how many there were; a power pill frightens the ghosts
static inline int32_t pacman_eat(const pacman_params *p, pacman_state *s, int32_t *turn) {
  uint32_t pill = s->pills[PACMAN_VISION + s->row] & 1u << s->column;
  if (pill == 0) return 0;
  s->pills[PACMAN_VISION + s->row] ^= pill;
  s->left[s->row / PACMAN_BLOCK_ROWS * PACMAN_BLOCKS + s->column / PACMAN_BLOCK_COLUMNS]--;
  s->pills_eaten++;
  if (pill & pacman_power_pills(s->row)) {
    *turn = 1;
    s->frightened = p->frightened_steps;
    for (int32_t i = 0; i < PACMAN_GHOSTS; i++)
      if (s->ghost_mode[i] != PACMAN_EYES) s->ghost_mode[i] = PACMAN_FRIGHTENED;
  }
  return 1;
}


// the tile that a ghost wants to reach
static inline void pacman_target(const pacman_state *s, int32_t i, int32_t *row, int32_t *column) {
  int32_t down = s->ghost_row[i] - s->row, right = s->ghost_column[i] - s->column;
  int32_t is_near = down * down + right * right <= PACMAN_CLYDE_RADIUS * PACMAN_CLYDE_RADIUS;

  if (s->ghost_mode[i] == PACMAN_EYES) {
    // home
    *row = PACMAN_DOOR_ROW;
    *column = PACMAN_DOOR_COLUMN;
  } else if (s->periods % 2 == 0 || (i == PACMAN_CLYDE && is_near)) {
    // its corner
    *row = PACMAN_CORNER_ROW[i];
    *column = PACMAN_CORNER_COLUMN[i];
  } else {
    // the player, or a tile ahead of it; Inky: as far beyond that as Blinky is on this side of it
    *row = s->row + PACMAN_LEAD[i] * pacman_down(s->direction);
    *column = s->column + PACMAN_LEAD[i] * pacman_right(s->direction);
    if (i == PACMAN_INKY) {
      *row = 2 * *row - s->ghost_row[PACMAN_BLINKY];
      *column = 2 * *column - s->ghost_column[PACMAN_BLINKY];
    }
  }
}


// the direction in which a ghost goes on
static inline int32_t pacman_choose(const pacman_state *s, int32_t i, int32_t turn, uint32_t drawn) {
  int32_t row = s->ghost_row[i], column = s->ghost_column[i];
  int32_t exits = pacman_exits(row, column), back = s->ghost_direction[i] ^ 1;

  // round, if it has to and there is a way
  if (turn && s->ghost_mode[i] != PACMAN_EYES && exits >> back & 1) return back;

  // otherwise never: the way to the tile that is nearest to its target, or a random one if it is frightened
  int32_t ways = exits & ~(1 << back), target_row, target_column;
  pacman_target(s, i, &target_row, &target_column);
  int32_t count = (ways & 1) + (ways >> 1 & 1) + (ways >> 2 & 1) + (ways >> 3 & 1);
  int32_t way = (int32_t)(drawn >> 8 * i & 255u) * count >> 8;
  int32_t direction = s->ghost_direction[i], nearest = PACMAN_FAR;
  for (int32_t k = 0; k < 4; k++) {
    int32_t d = PACMAN_ORDER[k];
    if ((ways >> d & 1) == 0) continue;
    int32_t down = row + pacman_down(d) - target_row, right = column + pacman_right(d) - target_column;
    int32_t far = s->ghost_mode[i] == PACMAN_FRIGHTENED ? way-- != 0 : down * down + right * right;
    if (far < nearest) {
      nearest = far;
      direction = d;
    }
  }
  return direction;
}


static inline void pacman_transition(const pacman_params *p, pacman_state *s, const int32_t *action, outcome *out) {
  int32_t from_row = s->row, from_column = s->column;
  int32_t turn = pacman_tick(p, s);
  pacman_move(s, *action);
  int32_t pills = pacman_eat(p, s, &turn);

  // the ghosts choose, all at once; frightened ones at random
  uint32_t drawn = s->frightened > 0 ? rng_bits(s->rng) : 0;
  int32_t chosen[PACMAN_GHOSTS];
  for (int32_t i = 0; i < PACMAN_GHOSTS; i++) chosen[i] = pacman_choose(s, i, turn, drawn);

  // they move, frightened ones in every second step
  int32_t ghosts = 0, caught = 0;
  for (int32_t i = 0; i < PACMAN_GHOSTS; i++) {
    int32_t row = s->ghost_row[i], column = s->ghost_column[i];
    int32_t rests = s->ghost_mode[i] == PACMAN_FRIGHTENED && ((p->frightened_steps - s->frightened) & 1) != 0;
    if (s->ghost_wait[i] > 0) {
      s->ghost_wait[i]--;
    } else if (!rests) {
      s->ghost_direction[i] = chosen[i];
      s->ghost_row[i] = row + pacman_down(chosen[i]);
      s->ghost_column[i] = pacman_beside(column, chosen[i]);
    }

    // on the player's tile, or past it? It eats the ghost, or is caught
    int32_t meets = s->ghost_row[i] == s->row && s->ghost_column[i] == s->column;
    int32_t came_from_there = s->ghost_row[i] == from_row && s->ghost_column[i] == from_column;
    if (meets || (came_from_there && row == s->row && column == s->column)) {
      if (s->ghost_mode[i] == PACMAN_NORMAL) caught = 1;
      if (s->ghost_mode[i] == PACMAN_FRIGHTENED) {
        s->ghost_mode[i] = PACMAN_EYES;
        ghosts++;
      }
    }

    // eyes above the door are a ghost in the house again
    if (s->ghost_mode[i] == PACMAN_EYES && s->ghost_row[i] == PACMAN_DOOR_ROW &&
        s->ghost_column[i] == PACMAN_DOOR_COLUMN) {
      s->ghost_row[i] = PACMAN_HOME_ROW;
      s->ghost_direction[i] = PACMAN_UP;
      s->ghost_mode[i] = PACMAN_NORMAL;
    }
  }
  s->ghosts_eaten += ghosts;
  s->steps++;

  out->reward = (float)(pills + ghosts);
  out->terminated = caught || s->pills_eaten == PACMAN_PILLS;
  out->truncated = s->steps >= p->max_steps;
}


// the low eight bits as eight bytes of 0 or 1
static inline uint64_t pacman_spread(uint32_t bits) {
  uint64_t ones = 0x0101010101010101u;
  uint64_t bytes = (bits & 255u) * ones & 0x8040201008040201u;
  return (bytes + 0x7F * ones) >> 7 & ones;
}


static inline void pacman_observe(const pacman_params *p, const pacman_state *s, pacman_obs *obs) {
  // the tiles around the player; the window goes round the sides
  int32_t left = s->column - PACMAN_VISION;
  if (left < 0) left += PACMAN_WIDTH;
  for (int32_t y = 0; y < PACMAN_SIDE; y++) {
    uint32_t walls = PACMAN_ROWS[s->row + y].walls, pills = s->pills[s->row + y];
    // two bits of a tile's number: floor 0, wall 1, dot 2, power pill 3
    uint32_t low = walls | (pills & pacman_power_pills(s->row + y - PACMAN_VISION)), high = pills;
    low = low >> left | low << (PACMAN_WIDTH - left);
    high = high >> left | high << (PACMAN_WIDTH - left);
    uint64_t eight = pacman_spread(low) + 2 * pacman_spread(high);
    memcpy(&obs->window[y * PACMAN_SIDE], &eight, 8);
    obs->window[y * PACMAN_SIDE + 8] = (int8_t)((low >> 8 & 1u) + 2 * (high >> 8 & 1u));
  }

  // the blocks around the player's
  int32_t up = s->row / PACMAN_BLOCK_ROWS, before = s->column / PACMAN_BLOCK_COLUMNS;
  for (int32_t y = 0; y < PACMAN_BLOCKS; y++)
    for (int32_t x = 0; x < PACMAN_BLOCKS; x++)
      obs->blocks[(PACMAN_BLOCKS - 1 - up + y) * PACMAN_BLOCKS_SIDE + PACMAN_BLOCKS - 1 - before + x] =
          (float)s->left[y * PACMAN_BLOCKS + x] * (1.0f / PACMAN_FULL_BLOCK);

  // the player, the time and the ghosts
  float *numbers = obs->numbers;
  numbers[s->direction] = 1.0f;
  numbers[4] = (float)s->row * (1.0f / PACMAN_HEIGHT);
  numbers[5] = (float)s->column * (1.0f / PACMAN_WIDTH);
  numbers[6] = (float)s->frightened * (1.0f / (float)p->frightened_steps);
  int32_t scatters = s->periods % 2 == 0, length = scatters ? p->scatter_steps : p->chase_steps;
  numbers[7] = (float)scatters;
  numbers[8] = (float)s->period_left * (1.0f / (float)length);
  numbers[9] = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
  for (int32_t i = 0; i < PACMAN_GHOSTS; i++) {
    // the shorter way round
    int32_t down = s->ghost_row[i] - s->row, right = s->ghost_column[i] - s->column;
    if (right > PACMAN_WIDTH / 2) right -= PACMAN_WIDTH;
    if (right < -PACMAN_WIDTH / 2) right += PACMAN_WIDTH;
    int32_t near = down >= -PACMAN_VISION && down <= PACMAN_VISION && right >= -PACMAN_VISION && right <= PACMAN_VISION;
    int32_t mode = s->ghost_mode[i];
    if (near && mode != PACMAN_EYES)
      obs->window[(PACMAN_VISION + down) * PACMAN_SIDE + PACMAN_VISION + right] =
          (int8_t)(mode == PACMAN_FRIGHTENED ? PACMAN_PREY : PACMAN_GHOST + s->ghost_direction[i]);
    float *of_ghost = &numbers[10 + 4 * i];
    of_ghost[0] = (float)down * (1.0f / PACMAN_HEIGHT);
    of_ghost[1] = (float)right * (1.0f / PACMAN_WIDTH);
    of_ghost[2] = mode == PACMAN_FRIGHTENED ? 1.0f : 0.0f;
    of_ghost[3] = mode == PACMAN_EYES ? 1.0f : 0.0f;
  }
}


// pills and ghosts
static inline float pacman_score(const pacman_params *p, const pacman_state *s) {
  (void)p;
  return (float)(s->pills_eaten + s->ghosts_eaten);
}


static inline float pacman_perf(const pacman_params *p, const pacman_state *s) {
  (void)p;
  return (float)s->pills_eaten * (1.0f / PACMAN_PILLS);
}


static inline void pacman_figures(const pacman_params *p, const pacman_state *s, pacman_log *log) {
  (void)p;
  log->cleared = s->pills_eaten == PACMAN_PILLS ? 1.0f : 0.0f;
  log->ghosts_eaten = (float)s->ghosts_eaten;
}
