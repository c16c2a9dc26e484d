// chess.h: chess for two sides; a move is two steps, its piece and its target. Twin of envs_jax/chess.py.
//
// observation  board int8 (8, 8), marks int8 (8, 8), clocks float32 (3,): pieces from the mover's side, what it may
//              choose and what the other side attacks, and how near a draw is
// action       discrete   0 to 63 a square, first of the piece and then of its target; 64 to 95 the target of a pawn
//              that promotes. A choice that is not legal is masked, and does nothing if made
// reward       1 if side 0, which begins, wins, -1 if side 1 does; material_reward for each pawn's worth that side 0
//              captures or gains by a promotion, minus that for what side 1 does
// ends         terminated at checkmate and draws, truncated after max_steps
#pragma once

#include "env.h"

// a set of squares is a set of bits: square (row, column) is bit 8 row + column. Row 0 is the first of the side that
// moves next, column 0 is the a-file
enum { CHESS_COLUMNS = 8, CHESS_SQUARES = 64, CHESS_WORD = 32, CHESS_PLANES = 4 };
#define CHESS_ROW(row) (0xFFull << (CHESS_COLUMNS * (row)))
#define CHESS_A_FILE 0x0101010101010101ull
#define CHESS_AB_FILES 0x0303030303030303ull
#define CHESS_GH_FILES 0xC0C0C0C0C0C0C0C0ull
#define CHESS_H_FILE 0x8080808080808080ull
#define CHESS_DARK 0xAA55AA55AA55AA55ull
#define CHESS_A1 0x01ull
#define CHESS_B1 0x02ull
#define CHESS_C1 0x04ull
#define CHESS_D1 0x08ull
#define CHESS_F1 0x20ull
#define CHESS_G1 0x40ull
#define CHESS_H1 0x80ull

// directions; the opposite one is CHESS_BACK further on, and a line is two opposite ones
enum { CHESS_NORTH, CHESS_EAST, CHESS_NORTHEAST, CHESS_NORTHWEST, CHESS_SOUTH, CHESS_WEST, CHESS_SOUTHWEST,
       CHESS_SOUTHEAST, CHESS_DIRECTIONS, CHESS_BACK = 4, CHESS_LINES = 4, CHESS_STRAIGHT_LINES = 2 };

// the pieces of a promotion
enum { CHESS_TO_QUEEN, CHESS_TO_ROOK, CHESS_TO_BISHOP, CHESS_TO_KNIGHT, CHESS_PROMOTIONS };

// draws: moves of one side without a capture or a move of a pawn, twice 50, and earlier occurrences of a position
enum { CHESS_QUIET = 100, CHESS_REPEATED = 2 };

typedef struct {
  float material_reward;  // for what is captured or gained by a promotion, of each pawn's worth
  int32_t max_steps;      // steps before truncation, two for a move
} chess_params;

typedef struct {
  uint32_t rng[2];
  uint32_t own[2];               // pieces of the side that moves next; the other sets are of both sides
  uint32_t pawns[2];
  uint32_t knights[2];
  uint32_t diagonal[2];          // bishops and queens
  uint32_t straight[2];          // rooks and queens
  uint32_t kings[2];
  uint32_t castling[2];          // rooks that may still castle
  uint32_t passed[2];            // the square that a pawn has just passed over, if it can be captured there
  uint32_t piece[2];             // the piece that is to move, none if it has to be chosen
  uint32_t choices[2];           // what may be chosen now
  uint32_t danger[2];            // what the other side attacks, its own pieces that it protects among it
  uint32_t seen[2][CHESS_QUIET]; // keys of the positions since the last capture or move of a pawn
  int32_t quiet;                 // moves since then, of either side
  int32_t repeated;              // earlier occurrences of the position
  int32_t check;                 // the king of the side that moves next is attacked
  int32_t side;                  // the side that moves next; 0 is white
  int32_t outcome;               // 1 side 0 has won, -1 side 1, 0 not decided or a draw
  int32_t steps;                 // since the episode began
} chess_state;

typedef struct {
  int8_t board[CHESS_SQUARES];
  int8_t marks[CHESS_SQUARES];
  float clocks[3];
} chess_obs;

typedef struct {
  float decided;
} chess_log;


static inline uint64_t chess_squares(const uint32_t *words) {
  return words[0] | (uint64_t)words[1] << CHESS_WORD;
}


static inline void chess_store(uint32_t *words, uint64_t squares) {
  words[0] = (uint32_t)squares;
  words[1] = (uint32_t)(squares >> CHESS_WORD);
}


static inline int32_t chess_several(uint64_t x) { return (x & (x - 1)) != 0; }


// shifted to the left, or to the right if negative
static inline uint64_t chess_shifted(uint64_t x, int32_t by) { return by > 0 ? x << by : x >> -by; }


// what a step in a direction adds to the bit of a square, and the squares where it can end
static const int32_t CHESS_STEPS[CHESS_DIRECTIONS] = {8, 1, 9, 7, -8, -1, -9, -7};
static const uint64_t CHESS_ENDS[CHESS_DIRECTIONS] = {
  ~0ull, ~CHESS_A_FILE, ~CHESS_A_FILE, ~CHESS_H_FILE, ~0ull, ~CHESS_H_FILE, ~CHESS_H_FILE, ~CHESS_A_FILE,
};


// the squares one step away
static inline uint64_t chess_step(uint64_t x, int32_t direction) {
  return chess_shifted(x, CHESS_STEPS[direction]) & CHESS_ENDS[direction];
}


// the squares that a slide passes, which goes through a set of squares and ends on the first one that is not in it
static inline uint64_t chess_ray(uint64_t x, uint64_t through, int32_t direction) {
  // after each round twice as far
  through &= CHESS_ENDS[direction];
  for (int32_t far = 1; far < CHESS_COLUMNS; far *= 2) {
    x |= through & chess_shifted(x, far * CHESS_STEPS[direction]);
    through &= chess_shifted(through, far * CHESS_STEPS[direction]);
  }
  return chess_step(x, direction);
}


// the squares a knight's move away
static inline uint64_t chess_jumps(uint64_t x) {
  uint64_t one = (x << 1 & ~CHESS_A_FILE) | (x >> 1 & ~CHESS_H_FILE);
  uint64_t two = (x << 2 & ~CHESS_AB_FILES) | (x >> 2 & ~CHESS_GH_FILES);
  return one << 16 | one >> 16 | two << 8 | two >> 8;
}


// the squares a king's move away
static inline uint64_t chess_around(uint64_t x) {
  uint64_t found = 0;
  for (int32_t d = 0; d < CHESS_DIRECTIONS; d++) found |= chess_step(x, d);
  return found;
}


// the position as a number of four bits for each square: 0 empty; 1 to 6 own pawn, knight, bishop, rook, queen, king;
// 7 a rook that may castle; 8 a square where a pawn can be captured that passed it; 9 to 15 the pieces of the other side
static inline void chess_planes(const chess_state *s, uint64_t *planes) {
  uint64_t diagonal = chess_squares(s->diagonal), straight = chess_squares(s->straight);
  uint64_t kings = chess_squares(s->kings), castling = chess_squares(s->castling);
  planes[0] = chess_squares(s->pawns) | diagonal | castling;
  planes[1] = chess_squares(s->knights) | (diagonal & ~straight) | kings | castling;
  planes[2] = straight | kings;
  planes[3] = ((planes[0] | planes[1] | planes[2]) & ~chess_squares(s->own)) | chess_squares(s->passed);
}


// what may be chosen: pieces that have a legal move, or the targets of the chosen piece; also what the other side
// attacks, whether there is a check, and whether the pawn that has passed a square can be captured
static inline void chess_look(chess_state *s) {
  uint64_t own = chess_squares(s->own), pawns = chess_squares(s->pawns), knights = chess_squares(s->knights);
  uint64_t kings = chess_squares(s->kings), straight = chess_squares(s->straight);
  uint64_t piece = chess_squares(s->piece), passed = chess_squares(s->passed), castling = chess_squares(s->castling);
  uint64_t lines[2] = {straight, chess_squares(s->diagonal)};
  uint64_t occupied = pawns | knights | lines[0] | lines[1] | kings;
  uint64_t theirs = occupied & ~own, empty = ~occupied, king = own & kings;
  int32_t picking = piece == 0;

  // what they attack, also behind the king, and what the king sees in each direction
  uint64_t danger = chess_jumps(theirs & knights) | chess_around(theirs & kings);
  danger |= chess_step(theirs & pawns, CHESS_SOUTHWEST) | chess_step(theirs & pawns, CHESS_SOUTHEAST);
  uint64_t hit[CHESS_DIRECTIONS], sight[CHESS_DIRECTIONS];
  for (int32_t d = 0; d < CHESS_DIRECTIONS; d++) {
    uint64_t sliders = lines[d % CHESS_LINES >= CHESS_STRAIGHT_LINES];
    hit[d] = chess_ray(theirs & sliders, empty | king, d);
    sight[d] = chess_ray(king, empty, d);
    danger |= hit[d];
  }

  // who gives check, and the squares between
  uint64_t checks = chess_jumps(king) & knights;
  checks |= (chess_step(king, CHESS_NORTHWEST) | chess_step(king, CHESS_NORTHEAST)) & pawns;
  uint64_t between = 0;
  for (int32_t d = 0; d < CHESS_DIRECTIONS; d++) {
    uint64_t slider = sight[d] & theirs & lines[d % CHESS_LINES >= CHESS_STRAIGHT_LINES];
    checks |= slider;
    if (slider) between |= sight[d];
  }
  checks &= theirs;

  // a piece between the king and a slider may move only along that line
  uint64_t pinned[CHESS_LINES], any_pinned = 0, free[CHESS_LINES];
  for (int32_t d = 0; d < CHESS_LINES; d++) {
    pinned[d] = (sight[d] & hit[d + CHESS_BACK]) | (sight[d + CHESS_BACK] & hit[d]);
    any_pinned |= pinned[d];
  }
  for (int32_t d = 0; d < CHESS_LINES; d++) free[d] = own & (~any_pinned | pinned[d]);

  // targets: a piece other than the king must answer a check
  uint64_t goals = ~own;
  if (checks) goals &= chess_several(checks) ? 0 : checks | between;

  // pieces that reach a goal, or goals that the piece reaches: the same, as these moves can be made backwards
  uint64_t found = 0;
  for (int32_t d = 0; d < CHESS_DIRECTIONS; d++) {
    uint64_t sliders = free[d % CHESS_LINES] & lines[d % CHESS_LINES >= CHESS_STRAIGHT_LINES];
    found |= chess_ray(picking ? goals : piece & sliders, empty, d) & (picking ? sliders : goals);
  }
  uint64_t jumpers = own & knights & ~any_pinned, calm = ~own & ~danger;
  found |= chess_jumps(picking ? goals : piece & jumpers) & (picking ? jumpers : goals);
  found |= chess_around(picking ? calm : piece & king) & (picking ? king : calm);

  // pawns: one step, two from their first row, and captures
  uint64_t ahead = goals & empty, pushed = free[CHESS_NORTH] & pawns;
  uint64_t jumped = pushed & CHESS_ROW(1) & chess_step(empty, CHESS_SOUTH);
  found |= picking ? chess_step(ahead, CHESS_SOUTH) & pushed : chess_step(piece & pushed, CHESS_NORTH) & ahead;
  found |= picking ? ahead >> 16 & jumped : (piece & jumped) << 16 & ahead;
  for (int32_t d = CHESS_NORTHEAST; d <= CHESS_NORTHWEST; d++) {
    uint64_t capturing = free[d] & pawns, prey = goals & theirs;
    found |= picking ? chess_step(prey, d + CHESS_BACK) & capturing : chess_step(piece & capturing, d) & prey;
  }

  // en passant: not if a check remains, nor if only these two pawns stand between the king and a slider on their row
  uint64_t caught = chess_step(passed, CHESS_SOUTH), through = empty | caught;
  uint64_t bared = chess_ray(king, through, CHESS_EAST) & chess_ray(theirs & straight, through, CHESS_WEST);
  bared |= chess_ray(king, through, CHESS_WEST) & chess_ray(theirs & straight, through, CHESS_EAST);
  uint64_t passing = chess_step(passed, CHESS_SOUTHWEST) & free[CHESS_NORTHEAST];
  passing |= chess_step(passed, CHESS_SOUTHEAST) & free[CHESS_NORTHWEST];
  passing &= pawns & ~bared;
  if (!(goals & (passed | caught))) passing = 0;
  if (!passing) passed = 0;
  found |= picking ? passing : piece & passing ? passed : 0;

  // castling: not out of a check, nor over an attacked square
  calm &= empty;
  if ((piece & king) && !checks) {
    if ((castling & CHESS_H1) && !((CHESS_F1 | CHESS_G1) & ~calm)) found |= CHESS_G1;
    if ((castling & CHESS_A1) && !((CHESS_C1 | CHESS_D1) & ~calm) && (empty & CHESS_B1)) found |= CHESS_C1;
  }

  chess_store(s->choices, found);
  chess_store(s->danger, danger);
  chess_store(s->passed, passed);
  s->check = checks != 0;
}


// a set after a move: without what has gone, and with the target if the piece is in it
static inline uint64_t chess_moved(uint64_t x, uint64_t from, uint64_t gone, uint64_t to) {
  return (x & ~gone) | (x & from ? to : 0);
}


// the rows in the opposite order: the board as the other side sees it
static inline uint64_t chess_turned(uint64_t x) { return __builtin_bswap64(x); }


// move the piece, and turn the board round to the other side
static inline void chess_play(chess_state *s, uint64_t to, int32_t promotion) {
  uint64_t own = chess_squares(s->own), pawns = chess_squares(s->pawns), knights = chess_squares(s->knights);
  uint64_t diagonal = chess_squares(s->diagonal), straight = chess_squares(s->straight);
  uint64_t kings = chess_squares(s->kings), castling = chess_squares(s->castling);
  uint64_t from = chess_squares(s->piece), passed = chess_squares(s->passed);
  int32_t pawn = (from & pawns) != 0, king = (from & kings) != 0, last = pawn && (to & CHESS_ROW(7));
  int32_t capture = ((pawns | knights | diagonal | straight | kings) & to) != 0;

  // what leaves its square, and where the rook goes when castling
  uint64_t gone = from | to, rook = 0;
  if (pawn) gone |= chess_step(to & passed, CHESS_SOUTH);
  if (king && from << 2 == to) {
    gone |= CHESS_H1;
    rook = CHESS_F1;
  }
  if (king && from >> 2 == to) {
    gone |= CHESS_A1;
    rook = CHESS_D1;
  }

  // the piece on its target; a pawn on the last row is another piece there
  int32_t queen = promotion == CHESS_TO_QUEEN;
  own = (own & ~gone) | to | rook;
  pawns = chess_moved(pawns, from, gone, last ? 0 : to);
  knights = chess_moved(knights, from, gone, to) | (last && promotion == CHESS_TO_KNIGHT ? to : 0);
  diagonal = chess_moved(diagonal, from, gone, to) | (last && (queen || promotion == CHESS_TO_BISHOP) ? to : 0);
  straight = chess_moved(straight, from, gone, to) | (last && (queen || promotion == CHESS_TO_ROOK) ? to : 0) | rook;
  kings = chess_moved(kings, from, gone, to);

  // what the next moves depend on
  castling &= ~(from | to | (king ? CHESS_ROW(0) : 0));
  passed = pawn && from << 16 == to ? from << CHESS_COLUMNS : 0;
  s->quiet = pawn || capture ? 0 : s->quiet + 1;
  s->side = 1 - s->side;

  own = (pawns | knights | diagonal | straight | kings) & ~own;
  chess_store(s->own, chess_turned(own));
  chess_store(s->pawns, chess_turned(pawns));
  chess_store(s->knights, chess_turned(knights));
  chess_store(s->diagonal, chess_turned(diagonal));
  chess_store(s->straight, chess_turned(straight));
  chess_store(s->kings, chess_turned(kings));
  chess_store(s->castling, chess_turned(castling));
  chess_store(s->passed, chess_turned(passed));
  chess_store(s->piece, 0);
}


// 64 bits of the position, which two positions share with a probability of 2^-64
static inline void chess_key(const chess_state *s, uint32_t *key) {
  uint64_t planes[CHESS_PLANES];
  chess_planes(s, planes);
  uint32_t x = (uint32_t)s->side, y = 0, z = 0;
  for (int32_t k = 0; k < CHESS_PLANES; k++) {
    x ^= (uint32_t)planes[k];
    y ^= (uint32_t)(planes[k] >> CHESS_WORD);
    rng_hash(&x, &y, &z);
  }
  key[0] = x;
  key[1] = y;
}


// count the earlier occurrences of the position, and note it
static inline void chess_remember(chess_state *s) {
  uint32_t key[2];
  chess_key(s, key);
  s->repeated = 0;
  int32_t earlier = s->quiet < CHESS_QUIET ? s->quiet : CHESS_QUIET;
  for (int32_t i = 0; i < earlier; i++) s->repeated += s->seen[0][i] == key[0] && s->seen[1][i] == key[1];
  if (earlier == CHESS_QUIET) return;
  s->seen[0][earlier] = key[0];
  s->seen[1][earlier] = key[1];
}


// what a piece is worth in pawns: the most valuable one of a set
static inline int32_t chess_worth(const chess_state *s, uint64_t set) {
  uint64_t diagonal = set & chess_squares(s->diagonal), straight = set & chess_squares(s->straight);
  if (diagonal & straight) return 9;
  if (straight) return 5;
  if (diagonal | (set & chess_squares(s->knights))) return 3;
  return (set & chess_squares(s->pawns)) != 0;
}


// whether nobody can give checkmate: a knight at most, or bishops on squares of one colour
static inline int32_t chess_bare(const chess_state *s) {
  uint64_t knights = chess_squares(s->knights), bishops = chess_squares(s->diagonal);
  if (chess_squares(s->pawns) | chess_squares(s->straight)) return 0;
  if (bishops) return !knights && (!(bishops & CHESS_DARK) || !(bishops & ~CHESS_DARK));
  return !chess_several(knights);
}


static inline void chess_init(const chess_params *p, chess_state *s) {
  (void)p;
  chess_store(s->own, CHESS_ROW(0) | CHESS_ROW(1));
  chess_store(s->pawns, CHESS_ROW(1) | CHESS_ROW(6));
  chess_store(s->knights, 0x4200000000000042ull);
  chess_store(s->diagonal, 0x2C0000000000002Cull);
  chess_store(s->straight, 0x8900000000000089ull);
  chess_store(s->kings, 0x1000000000000010ull);
  chess_store(s->castling, 0x8100000000000081ull);
  chess_store(s->passed, 0);
  chess_store(s->piece, 0);
  memset(s->seen, 0, sizeof s->seen);
  s->quiet = s->side = s->outcome = s->steps = 0;
  chess_look(s);
  chess_remember(s);
}


// the targets of the choices where the piece is a pawn that promotes
static inline uint64_t chess_promoting(const chess_state *s) {
  return chess_squares(s->piece) & chess_squares(s->pawns) ? chess_squares(s->choices) & CHESS_ROW(7) : 0;
}


// whether each square of a row is in a set: a byte for each, the a-file in the lowest
static inline uint64_t chess_on_row(uint64_t x, int32_t row) {
  uint64_t bits = x >> CHESS_COLUMNS * row & 0xFF;
  return ((bits & 0x7F) * 0x0002040810204081ull & CHESS_A_FILE) | (bits & 0x80) << 49;
}


static inline void chess_action_mask(const chess_params *p, const chess_state *s, uint8_t *mask) {
  (void)p;
  uint64_t promoting = chess_promoting(s), others = chess_squares(s->choices) & ~promoting;
  for (int32_t row = 0; row < CHESS_COLUMNS + CHESS_PROMOTIONS; row++) {
    uint64_t bytes = row < CHESS_COLUMNS ? chess_on_row(others, row) : chess_on_row(promoting, CHESS_COLUMNS - 1);
    memcpy(mask + CHESS_COLUMNS * row, &bytes, sizeof bytes);
  }
}


static inline void chess_transition(const chess_params *p, chess_state *s, const int32_t *action, outcome *out) {
  int32_t promotes = *action >= CHESS_SQUARES, promotion = *action / CHESS_COLUMNS - CHESS_COLUMNS;
  int32_t square = promotes ? CHESS_SQUARES - CHESS_COLUMNS + *action % CHESS_COLUMNS : *action;
  uint64_t chosen = 1ull << square, promoting = chess_promoting(s);
  s->outcome = 0;
  s->steps++;
  out->truncated = s->steps >= p->max_steps;

  // what is not legal does nothing
  if (!(chosen & (promotes ? promoting : chess_squares(s->choices) & ~promoting))) return;

  // a piece to move
  if (!chess_squares(s->piece)) {
    chess_store(s->piece, chosen);
    chess_look(s);
    return;
  }

  // its move: what it captures, and what a promotion gains
  int32_t side = s->side, passing = (chess_squares(s->piece) & chess_squares(s->pawns)) != 0;
  if (!(chosen & chess_squares(s->passed))) passing = 0;
  int32_t gain = chess_worth(s, chosen) + passing - chess_worth(s, chess_squares(s->piece));
  chess_play(s, chosen, promotion);
  gain += chess_worth(s, chess_turned(chosen));

  // with no answer it is checkmate or stalemate
  chess_look(s);
  chess_remember(s);
  int32_t stuck = !chess_squares(s->choices), mate = stuck && s->check;
  int32_t draw = s->quiet >= CHESS_QUIET || s->repeated >= CHESS_REPEATED || chess_bare(s);
  s->outcome = mate * (1 - 2 * side);
  out->reward = (float)s->outcome + (float)(gain * (1 - 2 * side)) * p->material_reward;
  out->terminated = stuck || draw;
}


static inline void chess_observe(const chess_params *p, const chess_state *s, chess_obs *obs) {
  uint64_t planes[CHESS_PLANES], piece = chess_squares(s->piece), choices = chess_squares(s->choices) & ~piece;
  chess_planes(s, planes);
  for (int32_t row = 0; row < CHESS_COLUMNS; row++) {
    uint64_t codes = 0, marks = chess_on_row(choices, row) | chess_on_row(piece, row) << 1;
    marks |= chess_on_row(chess_squares(s->danger), row) << 2;
    for (int32_t k = 0; k < CHESS_PLANES; k++) codes |= chess_on_row(planes[k], row) << k;
    memcpy(obs->board + CHESS_COLUMNS * row, &codes, sizeof codes);
    memcpy(obs->marks + CHESS_COLUMNS * row, &marks, sizeof marks);
  }
  obs->clocks[0] = (float)s->quiet * (1.0f / (float)CHESS_QUIET);
  obs->clocks[1] = (float)s->repeated * (1.0f / (float)CHESS_REPEATED);
  obs->clocks[2] = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
}


static inline float chess_score(const chess_params *p, const chess_state *s) {
  (void)p;
  return (float)s->outcome;
}


static inline float chess_perf(const chess_params *p, const chess_state *s) {
  (void)p;
  return 0.5f + 0.5f * (float)s->outcome;
}


// whether the game was decided by a checkmate
static inline void chess_figures(const chess_params *p, const chess_state *s, chess_log *log) {
  (void)p;
  log->decided = s->outcome != 0 ? 1.0f : 0.0f;
}
