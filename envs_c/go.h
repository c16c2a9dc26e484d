// go.h: Go against an opponent that attacks and saves liberties. Twin of envs_jax/go.py.
//
// observation  float32 (2 size^2 + 2,): own stones and the opponent's, row by row from the top; stones captured
//              and lost, over the number of points
// action       discrete   0 pass, 1 + size * row + column a stone; an illegal action is masked, and a pass if played
// reward       1 for a won game, -1 for a lost one; per_stone for each stone captured, minus that for each lost
// ends         terminated when the game is scored, truncated after max_steps
#pragma once

#include "env.h"

// A set of points is a set of bits: point (row, column) is bit (size + 1) * row + column. The last bit of each row
// stays empty, so that no row continues in the next. A set fills as many words as the size needs, up to GO_WORDS
enum { GO_WORDS = 12, GO_WORD = 32, GO_SIDES = 4, GO_NOWHERE = -1 };

// inlined, so that loops over the words of a set are unrolled if the compiler knows their number
#define GO_INLINE static inline __attribute__((always_inline))

typedef struct {
  int32_t size;
  float komi;         // points added to the opponent's area
  float per_stone;    // reward for a stone captured
  int32_t max_steps;  // steps before truncation
} go_params;

typedef struct {
  uint32_t rng[2];
  uint32_t own[GO_WORDS];     // the agent's stones
  uint32_t theirs[GO_WORDS];  // the opponent's
  uint32_t atari[GO_WORDS];   // both sides' stones in chains with one liberty
  int32_t ko;                 // the point that may not be taken back now, -1 for none
  int32_t captured;           // stones that the agent took
  int32_t lost;               // stones that the agent lost
  int32_t passed;             // the opponent has just passed
  int32_t outcome;            // 1 won, -1 lost, 0 not decided or a draw
  int32_t steps;              // since the episode began
} go_state;


// what the size determines
typedef struct {
  int32_t size, stride, words;
  uint32_t board[GO_WORDS];  // all points
} go_geometry;


GO_INLINE go_geometry go_measure(int32_t size) {
  go_geometry g = {size, size + 1, (size * (size + 1) + GO_WORD - 1) / GO_WORD, {0}};
  for (int32_t row = 0; row < size; row++) {
    int32_t bit = row * g.stride;
    uint64_t points = (uint64_t)((1u << size) - 1) << (bit % GO_WORD);
    g.board[bit / GO_WORD] |= (uint32_t)points;
    if (points >> GO_WORD) g.board[bit / GO_WORD + 1] |= (uint32_t)(points >> GO_WORD);
  }
  return g;
}


GO_INLINE int32_t go_any(const go_geometry *g, const uint32_t *x) {
  uint32_t any = 0;
  for (int32_t w = 0; w < g->words; w++) any |= x[w];
  return any != 0;
}


GO_INLINE int32_t go_popcount(uint32_t x) {
  x -= x >> 1 & 0x55555555u;
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  return (int32_t)(((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}


GO_INLINE int32_t go_count(const go_geometry *g, const uint32_t *x) {
  int32_t n = 0;
  for (int32_t w = 0; w < g->words; w++) n += go_popcount(x[w]);
  return n;
}


// the set of one point, empty for none
GO_INLINE void go_point(const go_geometry *g, int32_t point, uint32_t *out) {
  for (int32_t w = 0; w < g->words; w++) out[w] = 0;
  if (point == GO_NOWHERE) return;
  int32_t bit = point / g->size * g->stride + point % g->size;
  out[bit / GO_WORD] = 1u << (bit % GO_WORD);
}


// the k-th point of a set
GO_INLINE int32_t go_kth(const go_geometry *g, const uint32_t *x, int32_t k) {
  int32_t w = 0;
  while (k >= go_popcount(x[w])) k -= go_popcount(x[w++]);
  uint32_t word = x[w];
  for (; k > 0; k--) word &= word - 1;
  int32_t bit = GO_WORD * w + __builtin_ctz(word);
  return bit / g->stride * g->size + bit % g->stride;
}


// the points on each of the four sides of those of a set, a word of each
GO_INLINE void go_sides(const go_geometry *g, const uint32_t *x, int32_t w, uint32_t *sides) {
  uint32_t before = w > 0 ? x[w - 1] : 0, after = w + 1 < g->words ? x[w + 1] : 0;
  sides[0] = (x[w] << 1 | before >> (GO_WORD - 1)) & g->board[w];
  sides[1] = (x[w] >> 1 | after << (GO_WORD - 1)) & g->board[w];
  sides[2] = (x[w] << g->stride | before >> (GO_WORD - g->stride)) & g->board[w];
  sides[3] = (x[w] >> g->stride | after << (GO_WORD - g->stride)) & g->board[w];
}


// the points next to those of a set
GO_INLINE void go_beside(const go_geometry *g, const uint32_t *x, uint32_t *out) {
  for (int32_t w = 0; w < g->words; w++) {
    uint32_t sides[GO_SIDES];
    go_sides(g, x, w, sides);
    out[w] = sides[0] | sides[1] | sides[2] | sides[3];
  }
}


// add to a set the points of `of` next to it; writes all points next to it to `beside`; returns whether it has grown
GO_INLINE uint32_t go_grow(const go_geometry *g, uint32_t *x, const uint32_t *of, uint32_t *beside) {
  uint32_t grown = 0;
  go_beside(g, x, beside);
  for (int32_t w = 0; w < g->words; w++) {
    uint32_t more = beside[w] & of[w] & ~x[w];
    x[w] |= more;
    grown |= more;
  }
  return grown;
}


// all points of `of` that are connected with the points of a set, which are in it
GO_INLINE void go_connected(const go_geometry *g, const uint32_t *x, const uint32_t *of, uint32_t *out) {
  uint32_t beside[GO_WORDS];
  for (int32_t w = 0; w < g->words; w++) out[w] = x[w];
  while (go_grow(g, out, of, beside)) continue;
}


// the chain of the points of a set, which are in `of`, if it has one liberty, otherwise none
GO_INLINE void go_weak_chain(const go_geometry *g, const uint32_t *x, const uint32_t *of, const uint32_t *empty,
                             uint32_t *out) {
  uint32_t liberties[GO_WORDS], grown;
  int32_t number;
  for (int32_t w = 0; w < g->words; w++) out[w] = x[w];
  do {
    grown = go_grow(g, out, of, liberties);
    for (int32_t w = 0; w < g->words; w++) liberties[w] &= empty[w];
    number = go_count(g, liberties);
  } while (grown && number < 2);  // two are enough to decide
  if (number != 1)
    for (int32_t w = 0; w < g->words; w++) out[w] = 0;
}


// put a stone on an empty point (or nowhere), and take stones; returns how many
GO_INLINE int32_t go_place(const go_geometry *g, go_state *s, uint32_t *mine, uint32_t *other, int32_t point) {
  s->ko = GO_NOWHERE;
  if (point == GO_NOWHERE) return 0;
  uint32_t stone[GO_WORDS], beside[GO_WORDS], within[GO_WORDS], seed[GO_WORDS], taken[GO_WORDS], empty[GO_WORDS];
  go_point(g, point, stone);
  go_beside(g, stone, beside);

  // it takes the other side's chains whose last liberty it fills
  for (int32_t w = 0; w < g->words; w++) {
    within[w] = other[w] & s->atari[w];
    seed[w] = beside[w] & within[w];
  }
  go_connected(g, seed, within, taken);

  // chains of its colour beside it, or beside what it takes, now have a different number of liberties
  go_beside(g, taken, seed);
  for (int32_t w = 0; w < g->words; w++) {
    within[w] = mine[w] & s->atari[w];
    seed[w] = (seed[w] | beside[w]) & within[w];
    mine[w] |= stone[w];
    other[w] &= ~taken[w];
    empty[w] = g->board[w] & ~(mine[w] | other[w]);
  }
  uint32_t changed[GO_WORDS], joined[GO_WORDS], chain[GO_WORDS];
  go_connected(g, seed, within, changed);

  // does the chain that it joins, or one of the other side beside it, have only one liberty left?
  go_weak_chain(g, stone, mine, empty, joined);
  for (int32_t w = 0; w < g->words; w++) s->atari[w] = (s->atari[w] & ~(changed[w] | taken[w])) | joined[w];
  for (int32_t side = 0; side < GO_SIDES; side++) {
    uint32_t sides[GO_SIDES];
    for (int32_t w = 0; w < g->words; w++) {
      go_sides(g, stone, w, sides);
      seed[w] = sides[side] & other[w];
    }
    if (!go_any(g, seed)) continue;
    go_weak_chain(g, seed, other, empty, chain);
    for (int32_t w = 0; w < g->words; w++) s->atari[w] |= chain[w];
  }

  // ko: a single stone that took a single one may not be taken back at once on that point
  int32_t number = go_count(g, taken);
  if (number == 1 && go_count(g, joined) == 1) s->ko = go_kth(g, taken, 0);
  return number;
}


// where a side may play: not on the ko, and not so that its stones have no liberty
GO_INLINE void go_legal(const go_geometry *g, const go_state *s, const uint32_t *mine, const uint32_t *other,
                        uint32_t *out) {
  uint32_t ko[GO_WORDS], empty[GO_WORDS], safe[GO_WORDS], beside[GO_WORDS];
  go_point(g, s->ko, ko);
  for (int32_t w = 0; w < g->words; w++) {
    empty[w] = g->board[w] & ~(mine[w] | other[w]);
    safe[w] = empty[w] | (mine[w] & ~s->atari[w]) | (other[w] & s->atari[w]);
  }
  go_beside(g, safe, beside);
  for (int32_t w = 0; w < g->words; w++) out[w] = empty[w] & ~ko[w] & beside[w];
}


// where a side would play: all legal points except its own eyes, the points with only its stones beside them
GO_INLINE void go_sensible(const go_geometry *g, const go_state *s, const uint32_t *mine, const uint32_t *other,
                           uint32_t *out) {
  uint32_t not_mine[GO_WORDS], beside[GO_WORDS];
  for (int32_t w = 0; w < g->words; w++) not_mine[w] = g->board[w] & ~mine[w];
  go_beside(g, not_mine, beside);
  go_legal(g, s, mine, other, out);
  for (int32_t w = 0; w < g->words; w++) out[w] &= beside[w];
}


// the opponent's point, none to pass, random among the best: it takes; if it cannot, it saves; then it plays beside the
// agent's stones, or anywhere
GO_INLINE int32_t go_reply(const go_geometry *g, go_state *s) {
  uint32_t best[GO_WORDS], weak[GO_WORDS], takes[GO_WORDS], saves[GO_WORDS], near[GO_WORDS], empty[GO_WORDS];
  go_sensible(g, s, s->theirs, s->own, best);
  for (int32_t w = 0; w < g->words; w++) weak[w] = s->own[w] & s->atari[w];
  go_beside(g, weak, takes);
  for (int32_t w = 0; w < g->words; w++) weak[w] = s->theirs[w] & s->atari[w];
  go_beside(g, weak, saves);
  go_beside(g, s->own, near);

  // a stone with two empty points beside it saves a chain
  for (int32_t w = 0; w < g->words; w++) empty[w] = g->board[w] & ~(s->own[w] | s->theirs[w]);
  for (int32_t w = 0; w < g->words; w++) {
    uint32_t of[GO_SIDES];
    go_sides(g, empty, w, of);
    uint32_t two = (of[0] & of[1]) | (of[2] & of[3]) | ((of[0] | of[1]) & (of[2] | of[3]));
    takes[w] &= best[w];
    saves[w] &= best[w] & two;
    near[w] &= best[w];
  }
  const uint32_t *found = go_any(g, takes) ? takes : go_any(g, saves) ? saves : go_any(g, near) ? near : best;
  int32_t number = go_count(g, found);
  int32_t k = rng_below(s->rng, number > 0 ? number : 1);
  return number > 0 ? go_kth(g, found, k) : GO_NOWHERE;
}


// a side's area minus the other's: stones, and empty points that are not connected to the other's stones
GO_INLINE int32_t go_area(const go_geometry *g, const uint32_t *own, const uint32_t *theirs) {
  uint32_t not_theirs[GO_WORDS], not_own[GO_WORDS], reached[GO_WORDS], by_them[GO_WORDS];
  for (int32_t w = 0; w < g->words; w++) {
    not_theirs[w] = g->board[w] & ~theirs[w];
    not_own[w] = g->board[w] & ~own[w];
  }
  go_connected(g, own, not_theirs, reached);
  go_connected(g, theirs, not_own, by_them);
  int32_t more = 0;
  for (int32_t w = 0; w < g->words; w++)
    more += go_popcount(reached[w] & ~by_them[w]) - go_popcount(by_them[w] & ~reached[w]);
  return more;
}


static inline void go_init(const go_params *p, go_state *s) {
  (void)p;
  memset(s->own, 0, sizeof s->own);
  memset(s->theirs, 0, sizeof s->theirs);
  memset(s->atari, 0, sizeof s->atari);
  s->ko = GO_NOWHERE;
  s->captured = s->lost = s->passed = s->outcome = s->steps = 0;
}


static inline void go_action_mask(const go_params *p, const go_state *s, uint8_t *mask) {
  go_geometry g = go_measure(p->size);
  uint32_t legal[GO_WORDS];
  go_legal(&g, s, s->own, s->theirs, legal);
  *mask++ = 1;
  for (int32_t row = 0; row < g.size; row++)
    for (int32_t column = 0, bit = row * g.stride; column < g.size; column++, bit++)
      *mask++ = legal[bit / GO_WORD] >> (bit % GO_WORD) & 1;
}


// a step; the transition below makes two versions of it
GO_INLINE void go_turn(const go_params *p, go_geometry g, go_state *s, const int32_t *action, outcome *out) {
  uint32_t stone[GO_WORDS], legal[GO_WORDS];
  s->steps++;

  // the agent's stone; an illegal action is a pass
  int32_t point = *action - 1;
  go_point(&g, point, stone);
  go_legal(&g, s, s->own, s->theirs, legal);
  for (int32_t w = 0; w < g.words; w++) legal[w] &= stone[w];
  int32_t passes = !go_any(&g, legal);
  int32_t captured = go_place(&g, s, s->own, s->theirs, passes ? GO_NOWHERE : point);

  // after a pass the game is over if the opponent has passed too, is ahead, or has no move
  float ahead = passes ? (float)go_area(&g, s->own, s->theirs) - p->komi : 0.0f;
  int32_t over = passes && (s->passed || ahead < 0.0f);
  int32_t reply = go_reply(&g, s);
  over = over || (passes && reply == GO_NOWHERE);
  s->outcome = !over ? 0 : ahead > 0.0f ? 1 : ahead < 0.0f ? -1 : 0;

  // otherwise it replies
  reply = over ? GO_NOWHERE : reply;
  int32_t lost = go_place(&g, s, s->theirs, s->own, reply);
  s->passed = reply == GO_NOWHERE;

  s->captured += captured;
  s->lost += lost;
  out->reward = (float)s->outcome + p->per_stone * (float)(captured - lost);
  out->terminated = over;
  out->truncated = s->steps >= p->max_steps;
}


static inline void go_transition(const go_params *p, go_state *s, const int32_t *action, outcome *out) {
  go_geometry g = go_measure(p->size);
  if (p->size == 9) {
    // known to the compiler, which makes this size faster
    g.size = 9, g.stride = 10, g.words = 3;
    go_turn(p, g, s, action, out);
  } else {
    go_turn(p, g, s, action, out);
  }
}


static inline void go_observe(const go_params *p, const go_state *s, float *obs) {
  int32_t stride = p->size + 1, points = p->size * p->size;
  for (int32_t row = 0; row < p->size; row++) {
    for (int32_t column = 0, bit = row * stride; column < p->size; column++, bit++, obs++) {
      obs[0] = (float)(int32_t)(s->own[bit / GO_WORD] >> (bit % GO_WORD) & 1);
      obs[points] = (float)(int32_t)(s->theirs[bit / GO_WORD] >> (bit % GO_WORD) & 1);
    }
  }
  float per_point = 1.0f / (float)points;
  obs[points] = (float)s->captured * per_point;
  obs[points + 1] = (float)s->lost * per_point;
}


static inline float go_score(const go_params *p, const go_state *s) {
  (void)p;
  return (float)s->outcome;
}


static inline float go_perf(const go_params *p, const go_state *s) {
  (void)p;
  return 0.5f + 0.5f * (float)s->outcome;
}
