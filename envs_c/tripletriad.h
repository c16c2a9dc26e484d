// tripletriad.h: a card game on nine fields. Twin of envs_jax/tripletriad.py.
//
// observation  float32 (90,): own hand, the opponent's hand, the board's cards, their owners, the card selected
// action       discrete   0 to 4 select a card, 5 to 13 place it; an illegal action is masked, and ignored if played
// reward       1 for a won game, -1 for a lost one, 0 for a draw
// ends         terminated when the board is full, truncated after max_steps
#pragma once

#include "env.h"

enum { TRIPLETRIAD_CARDS = 5, TRIPLETRIAD_CELLS = 9, TRIPLETRIAD_SIDE = 3, TRIPLETRIAD_SIDES = 4 };
enum { TRIPLETRIAD_NORTH, TRIPLETRIAD_EAST, TRIPLETRIAD_SOUTH, TRIPLETRIAD_WEST };
enum { TRIPLETRIAD_ACTIONS = TRIPLETRIAD_CARDS + TRIPLETRIAD_CELLS, TRIPLETRIAD_NONE = -1 };
enum { TRIPLETRIAD_MAX_VALUE = 7 };

#define TRIPLETRIAD_PER_VALUE 0.14285715f  // scale of observed values: 1/7

typedef struct {
  float opponent_begins;  // probability
  int32_t max_steps;      // steps before truncation
} tripletriad_params;

typedef struct {
  uint32_t rng[2];
  int32_t hand[2 * TRIPLETRIAD_CARDS * TRIPLETRIAD_SIDES];  // values of the agent's cards, then the opponent's
  int32_t played[2 * TRIPLETRIAD_CARDS];                    // 1 if the card has been placed
  int32_t board[TRIPLETRIAD_CELLS * TRIPLETRIAD_SIDES];     // values of the card on each cell, 0 if there is none
  int32_t owner[TRIPLETRIAD_CELLS];                         // 1 the agent, -1 the opponent, 0 nobody
  int32_t selected;                                         // the agent's card, or NONE
  int32_t steps;                                            // since the episode began
} tripletriad_state;


// player 0 or 1 puts a card on a free cell, and takes its weaker neighbours
static inline void tripletriad_place(tripletriad_state *s, int32_t player, int32_t card, int32_t cell) {
  const int32_t *values = s->hand + (player * TRIPLETRIAD_CARDS + card) * TRIPLETRIAD_SIDES;
  int32_t mine = player == 0 ? 1 : -1;
  int32_t column = cell % TRIPLETRIAD_SIDE, row = cell / TRIPLETRIAD_SIDE;
  s->played[player * TRIPLETRIAD_CARDS + card] = 1;
  s->owner[cell] = mine;
  for (int32_t k = 0; k < TRIPLETRIAD_SIDES; k++) s->board[cell * TRIPLETRIAD_SIDES + k] = values[k];
  if (row > 0 && values[TRIPLETRIAD_NORTH] > s->board[(cell - 3) * TRIPLETRIAD_SIDES + TRIPLETRIAD_SOUTH] &&
      s->owner[cell - 3] != 0)
    s->owner[cell - 3] = mine;
  if (column < 2 && values[TRIPLETRIAD_EAST] > s->board[(cell + 1) * TRIPLETRIAD_SIDES + TRIPLETRIAD_WEST] &&
      s->owner[cell + 1] != 0)
    s->owner[cell + 1] = mine;
  if (row < 2 && values[TRIPLETRIAD_SOUTH] > s->board[(cell + 3) * TRIPLETRIAD_SIDES + TRIPLETRIAD_NORTH] &&
      s->owner[cell + 3] != 0)
    s->owner[cell + 3] = mine;
  if (column > 0 && values[TRIPLETRIAD_WEST] > s->board[(cell - 1) * TRIPLETRIAD_SIDES + TRIPLETRIAD_EAST] &&
      s->owner[cell - 1] != 0)
    s->owner[cell - 1] = mine;
}


// the opponent puts a random one of its cards on a random free cell
static inline void tripletriad_reply(tripletriad_state *s) {
  int32_t cards = 0, cells = 0;
  for (int32_t i = 0; i < TRIPLETRIAD_CARDS; i++) cards += !s->played[TRIPLETRIAD_CARDS + i];
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) cells += s->owner[i] == 0;
  int32_t which_card = rng_below(s->rng, cards), which_cell = rng_below(s->rng, cells);
  int32_t card = 0, cell = 0;
  for (int32_t i = 0, k = 0; i < TRIPLETRIAD_CARDS; i++)
    if (!s->played[TRIPLETRIAD_CARDS + i] && k++ == which_card) card = i;
  for (int32_t i = 0, k = 0; i < TRIPLETRIAD_CELLS; i++)
    if (s->owner[i] == 0 && k++ == which_cell) cell = i;
  tripletriad_place(s, 1, card, cell);
}


// random hands, and an empty board
static inline void tripletriad_deal(tripletriad_state *s) {
  memset((char *)s + sizeof(s->rng), 0, sizeof(*s) - sizeof(s->rng));
  s->selected = TRIPLETRIAD_NONE;
  for (int32_t i = 0; i < 2 * TRIPLETRIAD_CARDS * TRIPLETRIAD_SIDES; i++)
    s->hand[i] = 1 + rng_below(s->rng, TRIPLETRIAD_MAX_VALUE);
}


static inline void tripletriad_init(const tripletriad_params *p, tripletriad_state *s) {
  tripletriad_deal(s);
  if (rng_bernoulli(s->rng, p->opponent_begins)) tripletriad_reply(s);
}


// cards owned by the agent minus those of the opponent, including those in hand
static inline int32_t tripletriad_lead(const tripletriad_state *s) {
  int32_t lead = 0;
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) lead += s->owner[i];
  for (int32_t i = 0; i < TRIPLETRIAD_CARDS; i++) lead += s->played[TRIPLETRIAD_CARDS + i] - s->played[i];
  return lead;
}


static inline int32_t tripletriad_full(const tripletriad_state *s) {
  int32_t cards = 0;
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) cards += s->owner[i] != 0;
  return cards == TRIPLETRIAD_CELLS;
}


static inline void tripletriad_action_mask(const tripletriad_params *p, const tripletriad_state *s, uint8_t *mask) {
  (void)p;
  int32_t selecting = s->selected == TRIPLETRIAD_NONE;
  for (int32_t i = 0; i < TRIPLETRIAD_CARDS; i++) mask[i] = selecting && !s->played[i];
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) mask[TRIPLETRIAD_CARDS + i] = !selecting && s->owner[i] == 0;
}


static inline void tripletriad_transition(const tripletriad_params *p, tripletriad_state *s, const int32_t *action,
                                          outcome *out) {
  uint8_t mask[TRIPLETRIAD_ACTIONS];
  tripletriad_action_mask(p, s, mask);
  s->steps++;

  // select a card, or place the one selected and let the opponent reply
  if (mask[*action]) {
    if (s->selected == TRIPLETRIAD_NONE) {
      s->selected = *action;
    } else {
      tripletriad_place(s, 0, s->selected, *action - TRIPLETRIAD_CARDS);
      s->selected = TRIPLETRIAD_NONE;
      if (!tripletriad_full(s)) tripletriad_reply(s);
    }
  }

  // who has more cards when the board is full?
  int32_t lead = tripletriad_lead(s), full = tripletriad_full(s);
  out->reward = full ? (float)((lead > 0) - (lead < 0)) : 0.0f;
  out->terminated = full;
  out->truncated = s->steps >= p->max_steps;
}


static inline void tripletriad_observe(const tripletriad_params *p, const tripletriad_state *s, float *obs) {
  (void)p;
  // both hands, with zeros for cards that were played
  for (int32_t i = 0; i < 2 * TRIPLETRIAD_CARDS; i++)
    for (int32_t k = 0; k < TRIPLETRIAD_SIDES; k++)
      *obs++ = (float)(s->played[i] ? 0 : s->hand[i * TRIPLETRIAD_SIDES + k]) * TRIPLETRIAD_PER_VALUE;
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS * TRIPLETRIAD_SIDES; i++) *obs++ = (float)s->board[i] * TRIPLETRIAD_PER_VALUE;
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) *obs++ = (float)s->owner[i];
  for (int32_t i = 0; i < TRIPLETRIAD_CARDS; i++) *obs++ = s->selected == i ? 1.0f : 0.0f;
}


static inline float tripletriad_score(const tripletriad_params *p, const tripletriad_state *s) {
  (void)p;
  int32_t lead = tripletriad_lead(s);
  return tripletriad_full(s) ? (float)((lead > 0) - (lead < 0)) : 0.0f;
}


static inline float tripletriad_perf(const tripletriad_params *p, const tripletriad_state *s) {
  return 0.5f + 0.5f * tripletriad_score(p, s);
}
