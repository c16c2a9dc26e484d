// tripletriad_two.h: a card game on nine fields for two sides that move in turns. Twin of TripleTriadTwo in
// envs_jax/tripletriad.py.
//
// observation  float32 (90,): hand of the side that moves, the other's hand, the board's cards, their owners, the card
//              selected
// action       discrete   0 to 4 select a card, 5 to 13 place it; an illegal action is masked, and ignored if played
// reward       1 if side 0, which begins, wins, -1 if side 1 does, 0 for a draw
// ends         terminated when the board is full, truncated after max_steps
#pragma once

#include "tripletriad.h"

typedef struct {
  int32_t max_steps;  // steps of both before truncation
} tripletriad_two_params;

// the agent is the side that moves next, the opponent the other
typedef tripletriad_state tripletriad_two_state;


static inline int32_t tripletriad_two_to_play(const tripletriad_two_state *s) {
  int32_t cards = 0;
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) cards += s->owner[i] != 0;
  return cards & 1;
}


// the same game as the other side sees it
static inline void tripletriad_two_exchange(tripletriad_two_state *s) {
  enum { HALF_HAND = TRIPLETRIAD_CARDS * TRIPLETRIAD_SIDES };
  for (int32_t i = 0; i < HALF_HAND; i++) {
    int32_t value = s->hand[i];
    s->hand[i] = s->hand[HALF_HAND + i];
    s->hand[HALF_HAND + i] = value;
  }
  for (int32_t i = 0; i < TRIPLETRIAD_CARDS; i++) {
    int32_t played = s->played[i];
    s->played[i] = s->played[TRIPLETRIAD_CARDS + i];
    s->played[TRIPLETRIAD_CARDS + i] = played;
  }
  for (int32_t i = 0; i < TRIPLETRIAD_CELLS; i++) s->owner[i] = -s->owner[i];
}


static inline void tripletriad_two_init(const tripletriad_two_params *p, tripletriad_two_state *s) {
  (void)p;
  tripletriad_deal(s);
}


static inline void tripletriad_two_action_mask(const tripletriad_two_params *p, const tripletriad_two_state *s,
                                               uint8_t *mask) {
  (void)p;
  tripletriad_action_mask(NULL, s, mask);
}


// cards owned by side 0 minus those of side 1, including those in hand
static inline int32_t tripletriad_two_lead(const tripletriad_two_state *s) {
  int32_t lead = tripletriad_lead(s);
  return tripletriad_two_to_play(s) == 0 ? lead : -lead;
}


static inline void tripletriad_two_transition(const tripletriad_two_params *p, tripletriad_two_state *s,
                                              const int32_t *action, outcome *out) {
  uint8_t mask[TRIPLETRIAD_ACTIONS];
  tripletriad_action_mask(NULL, s, mask);
  s->steps++;

  // select a card, or place the one selected; then it is the other side's turn
  if (mask[*action]) {
    if (s->selected == TRIPLETRIAD_NONE) {
      s->selected = *action;
    } else {
      tripletriad_place(s, 0, s->selected, *action - TRIPLETRIAD_CARDS);
      s->selected = TRIPLETRIAD_NONE;
      tripletriad_two_exchange(s);
    }
  }

  // who has more cards when the board is full?
  int32_t lead = tripletriad_two_lead(s), full = tripletriad_full(s);
  out->reward = full ? (float)((lead > 0) - (lead < 0)) : 0.0f;
  out->terminated = full;
  out->truncated = s->steps >= p->max_steps;
}


static inline void tripletriad_two_observe(const tripletriad_two_params *p, const tripletriad_two_state *s,
                                           float *obs) {
  (void)p;
  tripletriad_observe(NULL, s, obs);
}


static inline float tripletriad_two_score(const tripletriad_two_params *p, const tripletriad_two_state *s) {
  (void)p;
  int32_t lead = tripletriad_two_lead(s);
  return tripletriad_full(s) ? (float)((lead > 0) - (lead < 0)) : 0.0f;
}


static inline float tripletriad_two_perf(const tripletriad_two_params *p, const tripletriad_two_state *s) {
  return 0.5f + 0.5f * tripletriad_two_score(p, s);
}
