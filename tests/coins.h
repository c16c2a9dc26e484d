// Agents collect coins, and fall into pits, on a small grid. Twin of coins.py.
#pragma once

#include "env.h"

enum { COINS_MAX_AGENTS = 3, COINS_SIDE = 6, COINS_SIGHT = 2 };
enum { COINS_CELLS = COINS_SIDE * COINS_SIDE, COINS_WINDOW = 2 * COINS_SIGHT + 1 };
enum { COINS_FLOOR, COINS_COIN, COINS_PIT, COINS_WALL };

typedef struct {
  float coin_share;
  float pit_share;
  int32_t deadly;  // whether an agent in a pit is out
  int32_t levels;
  int32_t first_level;
  int32_t max_steps;
} coins_params;

typedef struct {
  uint32_t rng[2];
  uint8_t cells[COINS_CELLS];          // what is there
  int32_t row[COINS_MAX_AGENTS];
  int32_t column[COINS_MAX_AGENTS];
  int32_t coins[COINS_MAX_AGENTS];     // that each agent has
  int32_t out[COINS_MAX_AGENTS];       // 1 in a pit
  int32_t steps;
} coins_state;

typedef struct {
  int8_t tiles[COINS_WINDOW][COINS_WINDOW];  // around the agent
  float numbers[2];                          // where it is
} coins_obs;

typedef struct {
  float falls;
  float way;
} coins_log;


static inline int32_t coins_clip(int32_t x) { return x < 0 ? 0 : x > COINS_SIDE - 1 ? COINS_SIDE - 1 : x; }


static inline void coins_init(const coins_params *p, coins_state *s) {
  uint32_t world[2], key[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  rng_key(world, key);
  for (int32_t i = 0; i < COINS_CELLS; i++) {
    float chance = rng_unit(rng_at(key, i));
    s->cells[i] = chance < p->coin_share ? COINS_COIN : chance < p->coin_share + p->pit_share ? COINS_PIT : COINS_FLOOR;
  }

  // the agents stand on floor, in the corners
  const int32_t row[] = {0, COINS_SIDE - 1, 0}, column[] = {0, 0, COINS_SIDE - 1};
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) {
    s->cells[row[a] * COINS_SIDE + column[a]] = COINS_FLOOR;
    s->row[a] = row[a];
    s->column[a] = column[a];
    s->coins[a] = s->out[a] = 0;
  }
  s->steps = 0;
}


static inline void coins_transition(const coins_params *p, coins_state *s, const int32_t *action, outcome *out,
                                    int32_t *reset) {
  static const int32_t down[] = {0, -1, 1, 0, 0}, right[] = {0, 0, 0, -1, 1};

  // one after the other moves, and takes what is there
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) {
    out[a] = (outcome){0.0f, 0, 0};
    if (s->out[a]) continue;
    s->row[a] = coins_clip(s->row[a] + down[action[a]]);
    s->column[a] = coins_clip(s->column[a] + right[action[a]]);
    uint8_t *cell = s->cells + s->row[a] * COINS_SIDE + s->column[a];
    if (*cell == COINS_COIN) {
      *cell = COINS_FLOOR;
      s->coins[a]++;
      out[a].reward = 1.0f;
    } else if (*cell == COINS_PIT) {
      s->out[a] = p->deadly;
      out[a] = (outcome){-1.0f, p->deadly, 0};
    }
  }
  s->steps++;
  int32_t left = 0;
  for (int32_t i = 0; i < COINS_CELLS; i++) left += s->cells[i] == COINS_COIN;
  *reset = s->steps >= p->max_steps || left == 0;
}


static inline void coins_respawn(const coins_params *p, coins_state *s, const uint8_t *ended) {
  (void)p;
  (void)s;
  (void)ended;
}


static inline void coins_active(const coins_params *p, const coins_state *s, uint8_t *active) {
  (void)p;
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) active[a] = s->out[a] == 0;
}


static inline void coins_observe(const coins_params *p, const coins_state *s, coins_obs *obs) {
  (void)p;
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) {
    for (int32_t y = 0; y < COINS_WINDOW; y++)
      for (int32_t x = 0; x < COINS_WINDOW; x++) {
        int32_t row = s->row[a] + y - COINS_SIGHT, column = s->column[a] + x - COINS_SIGHT;
        int32_t inside = row >= 0 && row < COINS_SIDE && column >= 0 && column < COINS_SIDE;
        obs[a].tiles[y][x] = inside ? (int8_t)s->cells[row * COINS_SIDE + column] : COINS_WALL;
      }
    obs[a].numbers[0] = (float)s->row[a] * (1.0f / COINS_SIDE);
    obs[a].numbers[1] = (float)s->column[a] * (1.0f / COINS_SIDE);
  }
}


static inline void coins_score(const coins_params *p, const coins_state *s, float *score) {
  (void)p;
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) score[a] = (float)s->coins[a];
}


static inline void coins_perf(const coins_params *p, const coins_state *s, float *perf) {
  (void)p;
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) {
    float share = (float)s->coins[a] * 0.25f;
    perf[a] = share < 1.0f ? share : 1.0f;
  }
}


static inline void coins_figures(const coins_params *p, const coins_state *s, coins_log *log) {
  (void)p;
  for (int32_t a = 0; a < COINS_MAX_AGENTS; a++) {
    log[a].falls = (float)s->out[a];
    log[a].way = (float)(s->row[a] + s->column[a]);
  }
}
