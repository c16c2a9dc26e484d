// connect4.h: four in a row against a searching opponent. Twin of envs_jax/connect4.py.
//
// observation  float32 (42,), row by row from the top: 1 own, -1 the opponent's, 0 empty
// action       discrete   7 columns; a full one is masked, and loses if played
// reward       1 for a won game, -1 for a lost one, 0 for a draw
// ends         terminated at four in a row and on a full board, truncated after max_steps
#pragma once

#include "env.h"

// a board is a set of cells: cell (column, row from the bottom) is bit 7 column + row. The seventh row stays
// empty, so that no line continues in the next column. Two words hold it: columns 0 to 3, and 4 to 6
enum { CONNECT4_COLUMNS = 7, CONNECT4_ROWS = 6, CONNECT4_CELLS = 42, CONNECT4_UP = 1, CONNECT4_WORD = 28 };
enum { CONNECT4_ALONG = 7, CONNECT4_FALLING = 6, CONNECT4_RISING = 8 };  // step to the next cell of a line

#define CONNECT4_BOTTOM 0x40810204081ull  // the lowest cell of each column
#define CONNECT4_BOARD 0xfdfbf7efdfbfull  // 63 times that

typedef struct {
  int32_t opponent_depth;  // moves that the opponent looks ahead; 0 plays at random
  float opponent_begins;   // probability
  int32_t max_steps;       // steps before truncation
} connect4_params;

typedef struct {
  uint32_t rng[2];
  uint32_t own[2];     // the agent's cells
  uint32_t theirs[2];  // the opponent's
  int32_t outcome;     // 1 won, -1 lost, 0 not decided
  int32_t steps;       // since the episode began
} connect4_state;


static inline uint64_t connect4_cells(const uint32_t *words) {
  return words[0] | (uint64_t)words[1] << CONNECT4_WORD;
}


static inline void connect4_put(uint32_t *words, uint64_t cell) {
  words[0] |= (uint32_t)(cell & ((1u << CONNECT4_WORD) - 1));
  words[1] |= (uint32_t)(cell >> CONNECT4_WORD);
}


// the lowest free cell of each column
static inline uint64_t connect4_playable(uint64_t taken) {
  return (taken + CONNECT4_BOTTOM) & CONNECT4_BOARD;
}


static inline uint64_t connect4_column(int32_t column) {
  return (uint64_t)((1 << CONNECT4_ROWS) - 1) << (7 * column);
}


// whether there are four in a row anywhere
static inline int32_t connect4_four(uint64_t b) {
  uint64_t up = b & b >> CONNECT4_UP, along = b & b >> CONNECT4_ALONG;
  uint64_t falling = b & b >> CONNECT4_FALLING, rising = b & b >> CONNECT4_RISING;
  return ((up & up >> 2 * CONNECT4_UP) | (along & along >> 2 * CONNECT4_ALONG) |
          (falling & falling >> 2 * CONNECT4_FALLING) | (rising & rising >> 2 * CONNECT4_RISING)) != 0;
}


// the cells that would complete a four in a line with the given step, taken ones included
static inline uint64_t connect4_completing(uint64_t b, int32_t step) {
  uint64_t above = b << step & b << 2 * step, below = b >> step & b >> 2 * step;
  return (above & (b << 3 * step | b >> step)) | (below & (b >> 3 * step | b << step));
}


// the cells that would complete a four, taken ones included
static inline uint64_t connect4_threats(uint64_t b) {
  uint64_t up = b << CONNECT4_UP & b << 2 * CONNECT4_UP & b << 3 * CONNECT4_UP;
  return (up | connect4_completing(b, CONNECT4_ALONG) | connect4_completing(b, CONNECT4_FALLING) |
          connect4_completing(b, CONNECT4_RISING)) & CONNECT4_BOARD;
}


// how good a move to this cell is, looking `depth` moves ahead: 3 wins now, 2 wins with the next move for every reply,
// 0 lets the other win, 1 is any other move
static inline int32_t connect4_value(int32_t depth, uint64_t mine, uint64_t other, uint64_t cell) {
  uint64_t after = mine | cell, taken = after | other, replies = connect4_playable(taken);
  int32_t wins = depth >= 1 && (connect4_threats(mine) & cell) != 0;
  int32_t loses = depth >= 2 && (connect4_threats(other) & replies) != 0;

  // a reply saves the other player if it takes my only playable threat and makes no other threat playable
  uint64_t threats = connect4_threats(after) & ~taken, above = threats >> CONNECT4_UP, open = threats & replies;
  uint64_t saving = (open != 0 ? open : replies) & ~above;
  int32_t twice = (open & (open - 1)) != 0;
  int32_t forced = depth >= 3 && replies != 0 && (twice || saving == 0);
  return wins ? 3 : loses ? 0 : forced ? 2 : 1;
}


// the opponent's move: random among the best
static inline void connect4_reply(const connect4_params *p, connect4_state *s) {
  uint64_t mine = connect4_cells(s->theirs), other = connect4_cells(s->own);
  uint64_t playable = connect4_playable(mine | other);
  int32_t values[CONNECT4_COLUMNS], best = -1, count = 0;
  for (int32_t c = 0; c < CONNECT4_COLUMNS; c++) {
    uint64_t cell = playable & connect4_column(c);
    values[c] = cell ? connect4_value(p->opponent_depth, mine, other, cell) : -1;
    best = values[c] > best ? values[c] : best;
  }
  for (int32_t c = 0; c < CONNECT4_COLUMNS; c++) count += values[c] == best;
  int32_t which = rng_below(s->rng, count);
  for (int32_t c = 0, k = 0; c < CONNECT4_COLUMNS; c++)
    if (values[c] == best && k++ == which) connect4_put(s->theirs, playable & connect4_column(c));
}


static inline void connect4_init(const connect4_params *p, connect4_state *s) {
  s->own[0] = s->own[1] = s->theirs[0] = s->theirs[1] = 0;
  s->outcome = 0;
  s->steps = 0;
  if (rng_bernoulli(s->rng, p->opponent_begins)) connect4_reply(p, s);
}


static inline void connect4_action_mask(const connect4_params *p, const connect4_state *s, uint8_t *mask) {
  (void)p;
  uint64_t playable = connect4_playable(connect4_cells(s->own) | connect4_cells(s->theirs));
  for (int32_t c = 0; c < CONNECT4_COLUMNS; c++) mask[c] = (playable & connect4_column(c)) != 0;
}


static inline void connect4_transition(const connect4_params *p, connect4_state *s, const int32_t *action,
                                       outcome *out) {
  uint64_t taken = connect4_cells(s->own) | connect4_cells(s->theirs);
  uint64_t cell = connect4_playable(taken) & connect4_column(*action);
  int32_t full = 0;
  s->steps++;

  // a full column loses, four in a row wins, otherwise the opponent replies
  if (cell == 0) {
    s->outcome = -1;
  } else {
    connect4_put(s->own, cell);
    full = (taken | cell) == CONNECT4_BOARD;
    s->outcome = connect4_four(connect4_cells(s->own));
    if (!s->outcome && !full) {
      connect4_reply(p, s);
      s->outcome = -connect4_four(connect4_cells(s->theirs));
      full = (connect4_cells(s->own) | connect4_cells(s->theirs)) == CONNECT4_BOARD;
    }
  }
  out->reward = (float)s->outcome;
  out->terminated = s->outcome != 0 || full;
  out->truncated = s->steps >= p->max_steps;
}


static inline void connect4_observe(const connect4_params *p, const connect4_state *s, float *obs) {
  (void)p;
  uint64_t own = connect4_cells(s->own), theirs = connect4_cells(s->theirs);
  for (int32_t r = CONNECT4_ROWS - 1; r >= 0; r--)
    for (int32_t c = 0; c < CONNECT4_COLUMNS; c++)
      *obs++ = (float)((int32_t)(own >> (7 * c + r) & 1) - (int32_t)(theirs >> (7 * c + r) & 1));
}


static inline float connect4_score(const connect4_params *p, const connect4_state *s) {
  (void)p;
  return (float)s->outcome;
}


static inline float connect4_perf(const connect4_params *p, const connect4_state *s) {
  (void)p;
  return 0.5f + 0.5f * (float)s->outcome;
}
