// tetris.h: falling pieces, full rows, rising garbage. Twin of envs_jax/tetris.py.
//
// observation  float32 (252,): 200 cells column by column from the left, each from the top (1 filled, 0.5 where
//              the piece would land, otherwise 0); 10 column heights; the piece's row and column, the share of its fall
//              interval that is left, may hold, ticks to garbage, level; of a hard drop now: its row, rows cleared,
//              cells covered; one-hot: piece, rotation, next two, held or none
// action       discrete   0 nothing, 1 left, 2 right, 3 rotate, 4 soft drop, 5 hard drop, 6 hold
// reward       per row of a soft and of a hard drop, and for 1, 2, 3 or 4 rows cleared at once
// ends         terminated when a piece comes into play where cells are filled, or garbage lifts a filled cell over
//              the top; truncated after max_steps
#pragma once

#include "env.h"

enum {
  TETRIS_NOTHING, TETRIS_LEFT, TETRIS_RIGHT, TETRIS_ROTATE, TETRIS_SOFT_DROP, TETRIS_HARD_DROP, TETRIS_HOLD,
};

enum {
  TETRIS_WIDTH = 10,            // columns
  TETRIS_HEIGHT = 20,           // rows
  TETRIS_SPAWN_COLUMN = 3,      // of the box of a piece that comes into play, in row 0
  TETRIS_PIECES = 7,            // I O T S Z J L
  TETRIS_ROTATIONS = 4,         // quarter turns to the right
  TETRIS_PIECE_CELLS = 4,
  TETRIS_NEXT = 2,              // pieces known in advance
  TETRIS_NONE = 7,              // no piece is held
  TETRIS_LINES_PER_LEVEL = 10,
  TETRIS_GARBAGE_SPEEDUP = 4,   // ticks per level
  TETRIS_GOAL_LINES = 200,      // rows cleared for a perf of 1
  TETRIS_TOP_LEVEL = 10,        // from this level on, levels look the same to the agent
};

// bits of a column, bit r its cell in row r from the top; those below the floor are always set
#define TETRIS_FLOOR 0xFFF00000u  // of an empty column
#define TETRIS_BOTTOM 0x00080000u
#define TETRIS_WALL 0xFFFFFFFFu  // a column outside the board
#define TETRIS_BAG 0x7Fu  // all pieces

// the cells of each piece in each rotation, in a box of 4 by 4: a hexadecimal digit is 4 * row + column
static const uint32_t TETRIS_SHAPES[TETRIS_PIECES * TETRIS_ROTATIONS] = {
  0x4567, 0x26AE, 0x89AB, 0x159D,  // I
  0x1256, 0x1256, 0x1256, 0x1256,  // O
  0x1456, 0x1569, 0x4569, 0x1459,  // T
  0x1245, 0x156A, 0x5689, 0x0459,  // S
  0x0156, 0x2569, 0x459A, 0x1458,  // Z
  0x0456, 0x1259, 0x456A, 0x1589,  // J
  0x2456, 0x159A, 0x4568, 0x0159,  // L
};

// four bits as observations, the lowest first: several times faster than bit by bit
static const float TETRIS_FOUR_CELLS[16][4] = {
  {0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 0}, {1, 0, 1, 0}, {0, 1, 1, 0}, {1, 1, 1, 0},
  {0, 0, 0, 1}, {1, 0, 0, 1}, {0, 1, 0, 1}, {1, 1, 0, 1}, {0, 0, 1, 1}, {1, 0, 1, 1}, {0, 1, 1, 1}, {1, 1, 1, 1},
};

typedef struct {
  int32_t initial_garbage;       // rows
  int32_t fall_interval;         // ticks per row on level 0, one less on each further level
  int32_t min_fall_interval;     // ticks
  int32_t garbage_start;         // ticks before the first row rises
  int32_t garbage_interval;      // ticks between rows on level 0
  int32_t min_garbage_interval;  // ticks
  float soft_drop_reward;        // per row
  float hard_drop_reward;        // per row
  float single_reward;           // for one row cleared
  float double_reward;           // for two at once
  float triple_reward;           // for three at once
  float tetris_reward;           // for four at once
  int32_t max_steps;             // steps before truncation
} tetris_params;

typedef struct {
  uint32_t rng[2];
  uint32_t columns[TETRIS_WIDTH];  // bit r of column k is set where its cell in row r from the top is filled
  int32_t piece;                   // in play
  int32_t rotation;                // quarter turns to the right
  int32_t row;                     // of its box of 4 by 4
  int32_t column;                  // of the box, can be left of the board
  int32_t landing;                 // the row of the box where the piece would land
  int32_t next[TETRIS_NEXT];       // pieces to come
  int32_t held;                    // piece, TETRIS_NONE at first
  int32_t may_hold;                // 1 unless the piece in play came from a hold
  uint32_t bag;                    // bit i is set while piece i is still in the bag
  int32_t fall_timer;              // ticks since the piece came into play or last fell
  int32_t garbage_timer;           // ticks before garbage is due
  int32_t lines;                   // rows cleared
  int32_t steps;                   // since the episode began
} tetris_state;


// the rows in which the box of a shape cannot be, as bits: there it would overlap filled cells
static inline uint32_t tetris_blocked(const uint32_t *columns, int32_t column, uint32_t shape) {
  uint32_t blocked = 0;
  for (int32_t i = 0; i < TETRIS_PIECE_CELLS; i++) {
    uint32_t cell = shape >> 4 * i & 15;
    int32_t k = column + (int32_t)(cell & 3);
    uint32_t filled = k >= 0 && k < TETRIS_WIDTH ? columns[k] : TETRIS_WALL;
    blocked |= filled >> (cell >> 2);
  }
  return blocked;
}


// how many rows a box in this row can fall
static inline int32_t tetris_free_rows(uint32_t blocked, int32_t row) {
  return __builtin_ctz(blocked >> (row + 1));
}


static inline int32_t tetris_level(const tetris_state *s) {
  return s->lines / TETRIS_LINES_PER_LEVEL;
}


// ticks per row
static inline int32_t tetris_fall_interval(const tetris_params *p, const tetris_state *s) {
  int32_t interval = p->fall_interval - tetris_level(s);
  return interval > p->min_fall_interval ? interval : p->min_fall_interval;
}


// lift all rows by one; the new one at the bottom has a hole at a random place
static inline void tetris_raise_garbage(tetris_state *s) {
  int32_t hole = rng_below(s->rng, TETRIS_WIDTH);
  for (int32_t k = 0; k < TETRIS_WIDTH; k++) {
    s->columns[k] = s->columns[k] >> 1 | TETRIS_FLOOR;  // a bit of the floor becomes the new cell
    if (k == hole) s->columns[k] &= ~TETRIS_BOTTOM;
  }
}


// take a piece out of the bag, which is refilled when empty
static inline int32_t tetris_draw(tetris_state *s) {
  if (!s->bag) s->bag = TETRIS_BAG;
  int32_t left = 0;
  for (int32_t i = 0; i < TETRIS_PIECES; i++) left += s->bag >> i & 1;
  int32_t before = rng_below(s->rng, left);
  int32_t piece = 0;
  for (int32_t i = 0; i < TETRIS_PIECES; i++) {
    if (!(s->bag >> i & 1)) continue;
    if (before == 0) piece = i;
    before--;
  }
  s->bag &= ~(1u << piece);
  return piece;
}


static inline void tetris_init(const tetris_params *p, tetris_state *s) {
  // an empty board on garbage
  for (int32_t k = 0; k < TETRIS_WIDTH; k++) s->columns[k] = TETRIS_FLOOR;
  for (int32_t i = 0; i < p->initial_garbage; i++) tetris_raise_garbage(s);

  // a first piece and the next two
  s->bag = TETRIS_BAG;
  s->piece = tetris_draw(s);
  for (int32_t i = 0; i < TETRIS_NEXT; i++) s->next[i] = tetris_draw(s);
  s->rotation = 0;
  s->row = 0;
  s->column = TETRIS_SPAWN_COLUMN;
  uint32_t blocked = tetris_blocked(s->columns, s->column, TETRIS_SHAPES[TETRIS_ROTATIONS * s->piece]);
  s->landing = tetris_free_rows(blocked, s->row);
  s->held = TETRIS_NONE;
  s->may_hold = 1;
  s->fall_timer = 0;
  s->garbage_timer = p->garbage_start;
  s->lines = 0;
  s->steps = 0;
}


static inline void tetris_transition(const tetris_params *p, tetris_state *s, const int32_t *action, outcome *out) {
  int32_t over = 0;
  float reward = 0.0f;

  // time passes
  s->steps++;
  s->fall_timer++;
  if (s->garbage_timer > 0) s->garbage_timer--;

  // move or rotate, unless something is in the way
  int32_t column = s->column + (*action == TETRIS_RIGHT) - (*action == TETRIS_LEFT);
  int32_t rotation = (s->rotation + (*action == TETRIS_ROTATE)) & 3;
  uint32_t shape = TETRIS_SHAPES[TETRIS_ROTATIONS * s->piece + rotation];
  uint32_t blocked = tetris_blocked(s->columns, column, shape);
  if (blocked >> s->row & 1) {
    shape = TETRIS_SHAPES[TETRIS_ROTATIONS * s->piece + s->rotation];
    blocked = tetris_blocked(s->columns, s->column, shape);
  } else {
    s->column = column;
    s->rotation = rotation;
  }

  // fall to the floor by a hard drop, or by a row; a piece that cannot fall locks. A piece that is put aside does not
  int32_t holds = *action == TETRIS_HOLD && s->may_hold;
  int32_t hard = *action == TETRIS_HARD_DROP, soft = *action == TETRIS_SOFT_DROP;
  int32_t falls = !holds && (hard || soft || s->fall_timer >= tetris_fall_interval(p, s));
  int32_t free = tetris_free_rows(blocked, s->row);
  s->landing = s->row + free;
  int32_t locks = falls && (hard || free == 0);
  int32_t rows = hard || free == 0 ? free : 1;
  if (falls) {
    s->row += rows;
    s->fall_timer = 0;
  }
  if (hard) reward = p->hard_drop_reward * (float)rows;
  if (soft) reward = p->soft_drop_reward * (float)rows;

  if (locks) {
    // the piece becomes part of the board
    for (int32_t i = 0; i < TETRIS_PIECE_CELLS; i++) {
      uint32_t cell = shape >> 4 * i & 15;
      int32_t k = s->column + (int32_t)(cell & 3);
      if (k >= 0 && k < TETRIS_WIDTH) s->columns[k] |= 1u << (s->row + (int32_t)(cell >> 2));
    }

    // clear full rows, the upper ones first: the rows above a cleared one move down
    uint32_t full = ~TETRIS_FLOOR;
    for (int32_t k = 0; k < TETRIS_WIDTH; k++) full &= s->columns[k];
    int32_t cleared = 0;
    for (; full; full &= full - 1) {
      uint32_t above = (full & -full) - 1, upto = full ^ (full - 1);
      for (int32_t k = 0; k < TETRIS_WIDTH; k++)
        s->columns[k] = (s->columns[k] & ~upto) | (s->columns[k] & above) << 1;
      cleared++;
    }
    s->lines += cleared;
    if (cleared == 1) reward += p->single_reward;
    if (cleared == 2) reward += p->double_reward;
    if (cleared == 3) reward += p->triple_reward;
    if (cleared == 4) reward += p->tetris_reward;

    // raise garbage, once it is due
    if (s->garbage_timer == 0) {
      for (int32_t k = 0; k < TETRIS_WIDTH; k++) over |= s->columns[k] & 1;
      tetris_raise_garbage(s);
      int32_t interval = p->garbage_interval - TETRIS_GARBAGE_SPEEDUP * tetris_level(s);
      s->garbage_timer = interval > p->min_garbage_interval ? interval : p->min_garbage_interval;
    }
  }

  // the next piece comes into play, or the one that was held; if it does not fit, the game is over
  if (locks || holds) {
    int32_t from_hold = holds && s->held != TETRIS_NONE;
    int32_t piece = from_hold ? s->held : s->next[0];
    if (holds) s->held = s->piece;
    if (!from_hold) {
      s->next[0] = s->next[1];
      s->next[1] = tetris_draw(s);
    }
    s->piece = piece;
    s->rotation = 0;
    s->row = 0;
    s->column = TETRIS_SPAWN_COLUMN;
    blocked = tetris_blocked(s->columns, s->column, TETRIS_SHAPES[TETRIS_ROTATIONS * piece]);
    s->landing = tetris_free_rows(blocked, s->row);
    s->may_hold = !holds;
    s->fall_timer = 0;
    over |= blocked & 1;
  }

  out->reward = reward;
  out->terminated = over;
  out->truncated = s->steps >= p->max_steps;
}


// 1 at an index, 0 elsewhere; returns the place after them
static inline float *tetris_one_hot(float *obs, int32_t index, int32_t count) {
  memset(obs, 0, sizeof(float) * (uint32_t)count);
  obs[index] = 1.0f;
  return obs + count;
}


static inline void tetris_observe(const tetris_params *p, const tetris_state *s, float *obs) {
  // cells
  for (int32_t k = 0; k < TETRIS_WIDTH; k++)
    for (int32_t r = 0; r < TETRIS_HEIGHT; r += 4)
      memcpy(obs + k * TETRIS_HEIGHT + r, TETRIS_FOUR_CELLS[s->columns[k] >> r & 15], sizeof TETRIS_FOUR_CELLS[0]);

  // where the piece would land
  uint32_t shape = TETRIS_SHAPES[TETRIS_ROTATIONS * s->piece + s->rotation];
  uint32_t after[TETRIS_WIDTH];
  memcpy(after, s->columns, sizeof after);
  for (int32_t i = 0; i < TETRIS_PIECE_CELLS; i++) {
    uint32_t cell = shape >> 4 * i & 15;
    int32_t k = s->column + (int32_t)(cell & 3), r = s->landing + (int32_t)(cell >> 2);
    if (k < 0 || k >= TETRIS_WIDTH || r >= TETRIS_HEIGHT) continue;
    obs[k * TETRIS_HEIGHT + r] = 0.5f;
    after[k] |= 1u << r;
  }
  obs += TETRIS_WIDTH * TETRIS_HEIGHT;

  // the effect of a hard drop: rows it would fill, and empty cells it would cover
  uint32_t full = ~TETRIS_FLOOR;
  for (int32_t k = 0; k < TETRIS_WIDTH; k++) full &= after[k];
  int32_t cleared = 0, covered = 0;
  for (; full; full &= full - 1) cleared++;
  for (int32_t i = 0; i < TETRIS_PIECE_CELLS; i++) {
    uint32_t cell = shape >> 4 * i & 15;
    int32_t k = s->column + (int32_t)(cell & 3);
    uint32_t filled = k >= 0 && k < TETRIS_WIDTH ? after[k] : TETRIS_WALL;
    covered += tetris_free_rows(filled >> (cell >> 2), s->landing);
  }
  if (covered > TETRIS_PIECE_CELLS) covered = TETRIS_PIECE_CELLS;

  // heights of the columns
  for (int32_t k = 0; k < TETRIS_WIDTH; k++)
    obs[k] = (float)(TETRIS_HEIGHT - __builtin_ctz(s->columns[k])) * (1.0f / TETRIS_HEIGHT);
  obs += TETRIS_WIDTH;

  // place and time
  int32_t interval = tetris_fall_interval(p, s), level = tetris_level(s);
  float garbage = (float)s->garbage_timer * (1.0f / (float)p->garbage_interval);
  obs[0] = (float)s->row * (1.0f / TETRIS_HEIGHT);
  obs[1] = (float)s->column * (1.0f / TETRIS_WIDTH);
  obs[2] = (float)(interval - s->fall_timer) * (1.0f / (float)interval);
  obs[3] = (float)s->may_hold;
  obs[4] = garbage < 1.0f ? garbage : 1.0f;
  obs[5] = (float)(level < TETRIS_TOP_LEVEL ? level : TETRIS_TOP_LEVEL) * (1.0f / TETRIS_TOP_LEVEL);
  obs[6] = (float)s->landing * (1.0f / TETRIS_HEIGHT);
  obs[7] = (float)cleared * (1.0f / TETRIS_PIECE_CELLS);
  obs[8] = (float)covered * (1.0f / TETRIS_PIECE_CELLS);
  obs += 9;

  // pieces
  obs = tetris_one_hot(obs, s->piece, TETRIS_PIECES);
  obs = tetris_one_hot(obs, s->rotation, TETRIS_ROTATIONS);
  for (int32_t i = 0; i < TETRIS_NEXT; i++) obs = tetris_one_hot(obs, s->next[i], TETRIS_PIECES);
  tetris_one_hot(obs, s->held, TETRIS_PIECES + 1);
}


static inline float tetris_score(const tetris_params *p, const tetris_state *s) {
  (void)p;
  return (float)s->lines;
}


static inline float tetris_perf(const tetris_params *p, const tetris_state *s) {
  (void)p;
  float perf = (float)s->lines * (1.0f / TETRIS_GOAL_LINES);
  return perf < 1.0f ? perf : 1.0f;
}
