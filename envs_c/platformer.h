// platformer.h: run and jump to the flag at the right end of a level. Twin of envs_jax/platformer.py.
//
// observation  tiles int8 (11, 11), numbers float32 (6,): the tiles around the agent, row by row from the upper
//              left, the middle of the agent's box in the middle one: 0 air, 1 solid (also left and right of the
//              level), 2 platform, 3 coin, 4 flag, 5 enemy that walks to the left, 6 to the right; place of the
//              middle within its tile, across and down, speed across and down / the greatest, 1 if it stands,
//              share of the time left
// action       discrete   0 stay, 1 left, 2 right, 3 jump, 4 jump left, 5 jump right
// reward       coin_reward for a coin, stomp_reward for an enemy that is stomped on, progress_reward for the whole
//              way, in parts for each new column, flag_reward at the flag, death_reward for a death
// ends         terminated at the flag, below the world, or when an enemy is touched otherwise than from above;
//              truncated after max_steps
#pragma once

#include "env.h"

enum { PLATFORMER_STAY, PLATFORMER_LEFT, PLATFORMER_RIGHT, PLATFORMER_JUMP };  // and jump left, jump right

// a tile; in the observation also the flag, and an enemy that walks to the left, to the right
enum { PLATFORMER_AIR, PLATFORMER_SOLID, PLATFORMER_PLATFORM, PLATFORMER_COIN };
enum { PLATFORMER_FLAG = 4, PLATFORMER_ENEMY_LEFT, PLATFORMER_ENEMY_RIGHT };

enum { PLATFORMER_PLAYS, PLATFORMER_AT_FLAG, PLATFORMER_FELL, PLATFORMER_CAUGHT };  // how the episode is going

// lengths in tiles; columns count to the right, rows down
enum {
  PLATFORMER_COLUMNS = 64,
  PLATFORMER_ROWS = 16,
  PLATFORMER_VISION = 5,  // seen in each direction; also the thickness of the walls left and right
  PLATFORMER_SIDE = 2 * PLATFORMER_VISION + 1,
  PLATFORMER_START_COLUMN = 2,
  PLATFORMER_FLAG_COLUMN = 60,
};

// lengths in units, 256 to a tile; speeds in units per frame
enum {
  PLATFORMER_TILE_BITS = 8,
  PLATFORMER_TILE = 1 << PLATFORMER_TILE_BITS,
  PLATFORMER_WIDTH = 192,  // of the agent's box
  PLATFORMER_HEIGHT = 224,
  PLATFORMER_ENEMY_SIZE = 192,  // width and height of an enemy's box
  PLATFORMER_RUN_SPEED = 80,    // the greatest
  PLATFORMER_ACCELERATION = 16,
  PLATFORMER_FRICTION = 12,
  PLATFORMER_GRAVITY = 21,
  PLATFORMER_FALL_SPEED = 192,  // the greatest
  PLATFORMER_JUMP_SPEED = 192,
  PLATFORMER_STOMP_SPEED = 128,  // upwards, after a stomp
  PLATFORMER_ENEMY_SPEED = 16,
  PLATFORMER_FRAMES = 2,  // of a step
};

// scales of the observation and of the progress
#define PLATFORMER_PER_TILE 0.00390625f          // 1 / 256
#define PLATFORMER_PER_RUN_SPEED 0.0125f         // 1 / 80
#define PLATFORMER_PER_FALL_SPEED 0.00520833333f // 1 / 192
#define PLATFORMER_PER_COLUMN 0.0172413793f      // 1 / 58, from the start to the flag

// a level is a chain of pieces of ground; lengths in tiles
enum {
  PLATFORMER_START_WIDTH = 5,  // of the first piece
  PLATFORMER_LAST_START = 56,  // a piece that would end behind this column is the last, which has the flag
  PLATFORMER_PIECES = 13,      // after the first: all but the last have at least MIN_WIDTH columns
  PLATFORMER_MIN_WIDTH = 4,    // of a piece, and up to 3 more
  PLATFORMER_ROOM = 2,         // more if there is an enemy, a block or a roof; free of roof at both ends
  PLATFORMER_LOWEST = 2,       // height of a piece, from the bottom of the world
  PLATFORMER_HIGHEST = 11,
  PLATFORMER_MAX_RISE = 3,     // of a jump; it reaches 3.8
  PLATFORMER_MAX_REACH = 6,    // of a jump, gap and rise together
  PLATFORMER_MIN_CLIMB = 4,    // height of a ladder, and up to 2 more
  PLATFORMER_RUNG = 2,         // from one rung of a ladder to the next
  PLATFORMER_LIFT = 3,         // of roofs and high coins
  PLATFORMER_PEACE = 4,        // an enemy is on a piece with the probability difficulty / (PEACE + difficulty)
  PLATFORMER_ENEMIES = 8,      // at most
};

#define PLATFORMER_ALL_SOLID 0x55555555u  // a column of solid tiles

// what is on a piece, and perhaps an enemy
enum {
  PLATFORMER_NOTHING,
  PLATFORMER_LOW_COINS,
  PLATFORMER_HIGH_COINS,
  PLATFORMER_BLOCK,
  PLATFORMER_ROOF,
  PLATFORMER_FEATURES,
};

typedef struct {
  int32_t difficulty;     // 0 to 5: width of gaps, height of steps, number of enemies
  float coin_reward;
  float stomp_reward;
  float progress_reward;  // for all columns from the start to the flag
  float flag_reward;
  float death_reward;
  int32_t max_steps;      // steps before truncation
  int32_t levels;         // number of fixed levels, of which each episode has one; 0: new ones
  int32_t first_level;    // number of the first of them
} platformer_params;

typedef struct {
  uint32_t rng[2];
  uint32_t tiles[PLATFORMER_COLUMNS + 2 * PLATFORMER_VISION];  // bits 2 r and 2 r + 1 of word VISION + c: tile at row r
                                                               // and column c; outside of the columns all are solid
  int32_t enemy_x[PLATFORMER_ENEMIES];          // units, left edge of its box
  int32_t enemy_y[PLATFORMER_ENEMIES];          // units, top edge
  int32_t enemy_left[PLATFORMER_ENEMIES];       // units, least and greatest x
  int32_t enemy_right[PLATFORMER_ENEMIES];
  int32_t enemy_direction[PLATFORMER_ENEMIES];  // -1 left, 1 right, 0 there is none
  int32_t x;          // units, left edge of the agent's box
  int32_t y;          // units, top edge
  int32_t vx;         // units per frame, to the right
  int32_t vy;         // units per frame, down
  int32_t on_ground;  // 1 if it stands
  int32_t furthest;   // column that it has reached
  int32_t coins;      // taken
  int32_t stomps;     // enemies stomped on
  int32_t end;        // PLATFORMER_PLAYS, or how the episode ended
  int32_t steps;      // since the episode began
} platformer_state;

typedef struct {
  int8_t tiles[PLATFORMER_SIDE * PLATFORMER_SIDE + 3];
  float numbers[6];
} platformer_obs;

typedef struct {
  float coins;
  float progress;  // share of the columns to the flag
  float stomps;
} platformer_log;


static inline int32_t platformer_min(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t platformer_max(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t platformer_clip(int32_t x, int32_t low, int32_t high) {
  return platformer_min(platformer_max(x, low), high);
}


// column and row of the middle of the agent's box
static inline int32_t platformer_column(const platformer_state *s) {
  return (s->x + PLATFORMER_WIDTH / 2) >> PLATFORMER_TILE_BITS;
}
static inline int32_t platformer_row(const platformer_state *s) {
  return (s->y + PLATFORMER_HEIGHT / 2) >> PLATFORMER_TILE_BITS;
}


// the tile at a column and a row; below the world is air
static inline int32_t platformer_tile(const platformer_state *s, int32_t column, int32_t row) {
  uint32_t word = s->tiles[PLATFORMER_VISION + column];
  return row < PLATFORMER_ROWS ? (int32_t)(word >> 2 * row & 3u) : PLATFORMER_AIR;
}


static inline void platformer_put(platformer_state *s, int32_t column, int32_t row, int32_t tile) {
  uint32_t *word = &s->tiles[PLATFORMER_VISION + column];
  *word = (*word & ~(3u << 2 * row)) | (uint32_t)tile << 2 * row;
}


// a level: pieces of ground, each of which can be reached from the one before
static inline void platformer_build(const platformer_params *p, platformer_state *s, uint32_t *world) {
  int32_t most_rise = platformer_min(1 + p->difficulty, PLATFORMER_MAX_RISE);
  int32_t columns = PLATFORMER_COLUMNS + 2 * PLATFORMER_VISION;
  for (int32_t i = 0; i < columns; i++)
    s->tiles[i] = i < PLATFORMER_VISION || i >= PLATFORMER_VISION + PLATFORMER_COLUMNS ? PLATFORMER_ALL_SOLID : 0;
  for (int32_t i = 0; i < PLATFORMER_ENEMIES; i++) {
    s->enemy_x[i] = s->enemy_y[i] = s->enemy_left[i] = s->enemy_right[i] = 0;
    s->enemy_direction[i] = 0;
  }

  // the first piece, on which the agent stands
  int32_t start = 0, end = PLATFORMER_START_WIDTH, enemies = 0;
  int32_t height = PLATFORMER_LOWEST + 1 + rng_below(world, 4);
  for (int32_t c = start; c < end; c++)
    for (int32_t r = PLATFORMER_ROWS - height; r < PLATFORMER_ROWS; r++) platformer_put(s, c, r, PLATFORMER_SOLID);
  s->y = ((PLATFORMER_ROWS - height) << PLATFORMER_TILE_BITS) - PLATFORMER_HEIGHT;

  for (int32_t piece = 0; piece < PLATFORMER_PIECES; piece++) {
    // the next one: behind a gap, beside the last one, or at the top of a ladder
    int32_t jumps = rng_below(world, 2);
    int32_t gap = jumps * (1 + rng_below(world, 1 + p->difficulty));
    int32_t climbs = rng_below(world, 4) == 0, climb = PLATFORMER_MIN_CLIMB + rng_below(world, 3);
    int32_t rise = rng_below(world, 2 * PLATFORMER_MAX_RISE + 1) - PLATFORMER_MAX_RISE;
    int32_t ladder = !jumps && climbs && height + climb <= PLATFORMER_HIGHEST;
    int32_t reach = platformer_min(most_rise, PLATFORMER_MAX_REACH - gap);
    rise = platformer_clip(rise, PLATFORMER_LOWEST - height, platformer_min(reach, PLATFORMER_HIGHEST - height));
    rise = ladder ? climb : rise;

    // how long it is, of what, and what is on it
    int32_t width = PLATFORMER_MIN_WIDTH + rng_below(world, 4), thin = rng_below(world, 4) == 0;
    int32_t feature = rng_below(world, PLATFORMER_FEATURES), size = 1 + rng_below(world, 3);
    int32_t threat = rng_below(world, PLATFORMER_PEACE + p->difficulty);
    int32_t enemy = threat >= PLATFORMER_PEACE && enemies < PLATFORMER_ENEMIES;
    int32_t place = rng_below(world, 2), direction = 2 * rng_below(world, 2) - 1;
    width += enemy || feature >= PLATFORMER_BLOCK ? PLATFORMER_ROOM : 0;

    // the last one is level ground
    if (end + gap + width > PLATFORMER_LAST_START) {
      gap = rise = ladder = thin = enemy = 0;
      feature = PLATFORMER_NOTHING;
      width = PLATFORMER_COLUMNS - end;
    }
    if (ladder)
      for (int32_t h = height + PLATFORMER_RUNG; h <= height + rise - PLATFORMER_RUNG; h += PLATFORMER_RUNG)
        for (int32_t c = end - 2; c < end; c++) platformer_put(s, c, PLATFORMER_ROWS - h, PLATFORMER_PLATFORM);
    start = end + gap;
    end = start + width;
    height += rise;

    // its ground: solid to the bottom, or a platform that is open from below
    int32_t top = PLATFORMER_ROWS - height;
    for (int32_t c = start; c < end; c++)
      for (int32_t r = top; r < (thin ? top + 1 : PLATFORMER_ROWS); r++)
        platformer_put(s, c, r, thin ? PLATFORMER_PLATFORM : PLATFORMER_SOLID);

    if (feature == PLATFORMER_LOW_COINS || feature == PLATFORMER_HIGH_COINS)
      for (int32_t c = start + 1; c < start + 1 + size; c++)
        platformer_put(s, c, feature == PLATFORMER_LOW_COINS ? top - 1 : top - PLATFORMER_LIFT, PLATFORMER_COIN);
    if (feature == PLATFORMER_BLOCK)
      for (int32_t r = top - platformer_min(size, most_rise); r < top; r++)
        platformer_put(s, start + PLATFORMER_ROOM, r, PLATFORMER_SOLID);
    if (feature == PLATFORMER_ROOF)
      for (int32_t c = start + PLATFORMER_ROOM; c < end - PLATFORMER_ROOM; c++)
        platformer_put(s, c, top - PLATFORMER_LIFT, PLATFORMER_SOLID);
    if (enemy) {
      // it walks up to the piece's ends, or on the right of the block
      int32_t left = feature == PLATFORMER_BLOCK ? start + PLATFORMER_ROOM + 1 : start;
      s->enemy_x[enemies] = (left + place) << PLATFORMER_TILE_BITS;
      s->enemy_y[enemies] = (top << PLATFORMER_TILE_BITS) - PLATFORMER_ENEMY_SIZE;
      s->enemy_left[enemies] = left << PLATFORMER_TILE_BITS;
      s->enemy_right[enemies] = (end << PLATFORMER_TILE_BITS) - PLATFORMER_ENEMY_SIZE;
      s->enemy_direction[enemies] = direction;
      enemies++;
    }
  }
}


static inline void platformer_init(const platformer_params *p, platformer_state *s) {
  uint32_t world[2];
  rng_level(s->rng, p->levels, p->first_level, world);
  platformer_build(p, s, world);

  // the agent stands on the first piece
  s->x = PLATFORMER_START_COLUMN << PLATFORMER_TILE_BITS;
  s->vx = s->vy = 0;
  s->on_ground = 1;
  s->furthest = PLATFORMER_START_COLUMN;
  s->coins = s->stomps = s->steps = 0;
  s->end = PLATFORMER_PLAYS;
}


// speeds: it is pushed or slows down across, falls faster, and may jump
static inline void platformer_push(platformer_state *s, int32_t action) {
  int32_t way = action % PLATFORMER_JUMP;
  if (way == PLATFORMER_STAY) {
    s->vx = s->vx > 0 ? platformer_max(s->vx - PLATFORMER_FRICTION, 0) : platformer_min(s->vx + PLATFORMER_FRICTION, 0);
  } else {
    int32_t pushed = s->vx + (way == PLATFORMER_LEFT ? -PLATFORMER_ACCELERATION : PLATFORMER_ACCELERATION);
    s->vx = platformer_clip(pushed, -PLATFORMER_RUN_SPEED, PLATFORMER_RUN_SPEED);
  }
  s->vy = platformer_min(s->vy + PLATFORMER_GRAVITY, PLATFORMER_FALL_SPEED);
  if (action >= PLATFORMER_JUMP && s->on_ground) s->vy = -PLATFORMER_JUMP_SPEED;
}


// across, up to a solid tile
static inline void platformer_move_x(platformer_state *s) {
  s->x += s->vx;
  int32_t ahead = (s->vx > 0 ? s->x + PLATFORMER_WIDTH - 1 : s->x) >> PLATFORMER_TILE_BITS;
  int32_t upper = s->y >> PLATFORMER_TILE_BITS, lower = (s->y + PLATFORMER_HEIGHT - 1) >> PLATFORMER_TILE_BITS;
  int32_t wall = platformer_tile(s, ahead, upper) == PLATFORMER_SOLID ||
                 platformer_tile(s, ahead, lower) == PLATFORMER_SOLID;
  if (wall && s->vx != 0) {
    s->x = s->vx > 0 ? platformer_max(ahead * PLATFORMER_TILE - PLATFORMER_WIDTH, 0) : (ahead + 1) * PLATFORMER_TILE;
    s->vx = 0;
  }
}


// up to a solid tile or the top of the world, down to a solid tile or onto a platform
static inline void platformer_move_y(platformer_state *s) {
  int32_t before = s->y;
  s->y += s->vy;
  s->on_ground = 0;
  int32_t left = s->x >> PLATFORMER_TILE_BITS, right = (s->x + PLATFORMER_WIDTH - 1) >> PLATFORMER_TILE_BITS;
  if (s->vy < 0) {
    int32_t row = s->y < 0 ? -1 : s->y >> PLATFORMER_TILE_BITS;
    if (row < 0 || platformer_tile(s, left, row) == PLATFORMER_SOLID ||
        platformer_tile(s, right, row) == PLATFORMER_SOLID) {
      s->y = (row + 1) * PLATFORMER_TILE;
      s->vy = 0;
    }
  } else {
    int32_t row = (s->y + PLATFORMER_HEIGHT - 1) >> PLATFORMER_TILE_BITS;
    int32_t a = platformer_tile(s, left, row), b = platformer_tile(s, right, row);
    int32_t solid = a == PLATFORMER_SOLID || b == PLATFORMER_SOLID;
    int32_t from_above = before + PLATFORMER_HEIGHT <= row * PLATFORMER_TILE;
    int32_t platform = from_above && (a == PLATFORMER_PLATFORM || b == PLATFORMER_PLATFORM);
    if (solid || platform) {
      s->y = row * PLATFORMER_TILE - PLATFORMER_HEIGHT;
      s->vy = 0;
      s->on_ground = 1;
    }
  }
}


// the coin in the tile of the agent's middle
static inline void platformer_take_coin(platformer_state *s) {
  int32_t column = platformer_column(s), row = platformer_row(s);
  if (platformer_tile(s, column, row) != PLATFORMER_COIN) return;
  platformer_put(s, column, row, PLATFORMER_AIR);
  s->coins++;
}


// enemies walk to and fro; one that is touched from above is gone, any other one ends the episode
static inline void platformer_meet_enemies(platformer_state *s, int32_t y_before) {
  int32_t touched[PLATFORMER_ENEMIES], any = 0;
  for (int32_t i = 0; i < PLATFORMER_ENEMIES; i++) {
    int32_t ahead = s->enemy_x[i] + s->enemy_direction[i] * PLATFORMER_ENEMY_SPEED;
    int32_t turns = (ahead < s->enemy_left[i]) | (ahead > s->enemy_right[i]);
    s->enemy_x[i] = turns ? s->enemy_x[i] : ahead;
    s->enemy_direction[i] = turns ? -s->enemy_direction[i] : s->enemy_direction[i];

    int32_t beside = (s->x < s->enemy_x[i] + PLATFORMER_ENEMY_SIZE) & (s->enemy_x[i] < s->x + PLATFORMER_WIDTH);
    int32_t level = (s->y < s->enemy_y[i] + PLATFORMER_ENEMY_SIZE) & (s->enemy_y[i] < s->y + PLATFORMER_HEIGHT);
    touched[i] = beside & level & (s->enemy_direction[i] != 0);
    any |= touched[i];
  }
  if (!any) return;

  int32_t falls = s->y > y_before;
  for (int32_t i = 0; i < PLATFORMER_ENEMIES; i++) {
    if (!touched[i]) continue;
    if (falls && y_before + PLATFORMER_HEIGHT <= s->enemy_y[i] + PLATFORMER_ENEMY_SIZE / 2) {
      s->enemy_direction[i] = 0;
      s->stomps++;
      s->vy = -PLATFORMER_STOMP_SPEED;
      s->on_ground = 0;
    } else {
      s->end = PLATFORMER_CAUGHT;
    }
  }
}


static inline void platformer_frame(platformer_state *s, int32_t action) {
  int32_t y_before = s->y;
  platformer_push(s, action);
  platformer_move_x(s);
  platformer_move_y(s);
  platformer_take_coin(s);
  platformer_meet_enemies(s, y_before);
  if (s->y >= PLATFORMER_ROWS * PLATFORMER_TILE) s->end = PLATFORMER_FELL;
  if (platformer_column(s) >= PLATFORMER_FLAG_COLUMN) s->end = PLATFORMER_AT_FLAG;
}


static inline void platformer_transition(const platformer_params *p, platformer_state *s, const int32_t *action,
                                         outcome *out) {
  int32_t coins = s->coins, stomps = s->stomps, furthest = s->furthest;
  for (int32_t frame = 0; frame < PLATFORMER_FRAMES; frame++)
    if (s->end == PLATFORMER_PLAYS) platformer_frame(s, *action);
  s->furthest = platformer_max(furthest, platformer_column(s));
  s->steps++;

  // what it was worth
  float per_column = p->progress_reward * PLATFORMER_PER_COLUMN;
  int32_t at_flag = s->end == PLATFORMER_AT_FLAG, dead = s->end == PLATFORMER_FELL || s->end == PLATFORMER_CAUGHT;
  out->reward = p->coin_reward * (float)(s->coins - coins) + p->stomp_reward * (float)(s->stomps - stomps) +
                per_column * (float)(s->furthest - furthest) + (at_flag ? p->flag_reward : 0.0f) +
                (dead ? p->death_reward : 0.0f);
  out->terminated = at_flag || dead;
  out->truncated = s->steps >= p->max_steps;
}


static inline void platformer_observe(const platformer_params *p, const platformer_state *s, platformer_obs *obs) {
  // the columns around the agent from the window's upper edge on
  int32_t column = platformer_column(s), row = platformer_row(s);
  uint32_t words[PLATFORMER_SIDE + 1] = {0};
  for (int32_t j = 0; j < PLATFORMER_SIDE; j++) {
    uint32_t word = s->tiles[column + j];
    words[j] = row < PLATFORMER_VISION ? word << 2 * (PLATFORMER_VISION - row) : word >> 2 * (row - PLATFORMER_VISION);
  }
  for (int32_t i = 0; i < PLATFORMER_SIDE; i++)  // the next row overwrites what is too much
    for (int32_t j = 0; j < PLATFORMER_SIDE + 1; j++)
      obs->tiles[i * PLATFORMER_SIDE + j] = (int8_t)(words[j] >> 2 * i & 3u);

  // the flag, in front of the air of its column
  int32_t flag = PLATFORMER_FLAG_COLUMN - column + PLATFORMER_VISION;
  if (flag < PLATFORMER_SIDE && flag >= 0)
    for (int32_t i = flag; i < PLATFORMER_SIDE * PLATFORMER_SIDE; i += PLATFORMER_SIDE)
      if (obs->tiles[i] == PLATFORMER_AIR) obs->tiles[i] = PLATFORMER_FLAG;

  // the enemies, each in the tile of its middle
  for (int32_t k = 0; k < PLATFORMER_ENEMIES; k++) {
    int32_t middle = PLATFORMER_ENEMY_SIZE / 2;
    int32_t i = ((s->enemy_y[k] + middle) >> PLATFORMER_TILE_BITS) - row + PLATFORMER_VISION;
    int32_t j = ((s->enemy_x[k] + middle) >> PLATFORMER_TILE_BITS) - column + PLATFORMER_VISION;
    if (s->enemy_direction[k] != 0 && i >= 0 && i < PLATFORMER_SIDE && j >= 0 && j < PLATFORMER_SIDE)
      obs->tiles[i * PLATFORMER_SIDE + j] = s->enemy_direction[k] < 0 ? PLATFORMER_ENEMY_LEFT : PLATFORMER_ENEMY_RIGHT;
  }

  int32_t across = s->x + PLATFORMER_WIDTH / 2 - column * PLATFORMER_TILE;
  int32_t down = s->y + PLATFORMER_HEIGHT / 2 - row * PLATFORMER_TILE;
  obs->numbers[0] = (float)across * PLATFORMER_PER_TILE;
  obs->numbers[1] = (float)down * PLATFORMER_PER_TILE;
  obs->numbers[2] = (float)s->vx * PLATFORMER_PER_RUN_SPEED;
  obs->numbers[3] = (float)s->vy * PLATFORMER_PER_FALL_SPEED;
  obs->numbers[4] = (float)s->on_ground;
  obs->numbers[5] = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
}


static inline float platformer_score(const platformer_params *p, const platformer_state *s) {
  (void)p;
  return s->end == PLATFORMER_AT_FLAG ? 1.0f : 0.0f;
}


static inline void platformer_figures(const platformer_params *p, const platformer_state *s, platformer_log *log) {
  (void)p;
  log->coins = (float)s->coins;
  log->progress = (float)(s->furthest - PLATFORMER_START_COLUMN) * PLATFORMER_PER_COLUMN;
  log->stomps = (float)s->stomps;
}
