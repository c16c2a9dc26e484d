// capture_the_flag.h: two teams fetch each other's flag and guard their own. Twin of envs_jax/capture_the_flag.py.
//
// observation  agents float32 (2 team_size, 4), numbers float32 (6,) per agent, as its team sees the field: itself, its
//              mates, its opponents: rows down and columns ahead from it (its own place in its own entry), over the
//              field's, 1 with the flag, share of its time in jail that is left; how far the enemy's flag is down and
//              ahead, and the own flag ahead; points made minus points lost over winning_points, share of the time
//              left, its number in the team over team_size
// action       discrete   0 stay, 1 up, 2 down, 3 ahead, 4 back
// reward       1 for each agent of a team that brings the flag home, flag_reward if it takes it, tag_reward for an
//              opponent tagged; minus that for the other team
// ends         terminated for all when a team has winning_points; the world is reset after max_steps
#pragma once

#include "env.h"

enum { CTF_STAY, CTF_UP, CTF_DOWN, CTF_AHEAD, CTF_BACK };

enum {
  CAPTURE_THE_FLAG_MAX_AGENTS = 6,
  CTF_TEAMS = 2,
  CTF_FEATURES = 4,  // of an agent
  CTF_NUMBERS = 6,
  CTF_FLAG = 1,      // columns from a team's back line to its flag
  CTF_GROUND = 1,    // cells around the own flag, in rows and in columns, that are closed to its team
  CTF_FRONT = 3,     // columns from the back line to the first ones where agents begin, before that ground
  CTF_JAIL = 4,      // columns from a team's back line to the jail for its opponents, in the first row
  CTF_REACH = 1,     // cells over which an agent tags, in rows and columns together
  CTF_NOBODY = -1,
};

typedef struct {
  int32_t team_size;
  int32_t half;            // columns of each team's half
  int32_t rows;            // of the field
  int32_t jail_steps;      // in jail for who is not freed
  int32_t winning_points;  // that end the world
  float flag_reward;       // for the team that takes the flag
  float tag_reward;        // for the team that tags an opponent
  int32_t max_steps;       // steps of the world before it is reset
} capture_the_flag_params;

// the agents of team 0, then those of team 1; columns are counted from their own team's back line
typedef struct {
  uint32_t rng[2];
  int32_t row[CAPTURE_THE_FLAG_MAX_AGENTS];         // from the top
  int32_t ahead[CAPTURE_THE_FLAG_MAX_AGENTS];       // columns
  int32_t home_row[CAPTURE_THE_FLAG_MAX_AGENTS];    // where each began
  int32_t home_ahead[CAPTURE_THE_FLAG_MAX_AGENTS];
  int32_t jailed[CAPTURE_THE_FLAG_MAX_AGENTS];      // steps left in jail, 0 if it is free
  int32_t carrier[CTF_TEAMS];                       // which agent of a team has the enemy's flag, -1 for none
  int32_t points[CTF_TEAMS];
  int32_t flag_row;                                 // of both flags
  int32_t steps;                                    // since the world began
} capture_the_flag_state;

typedef struct {
  float agents[CAPTURE_THE_FLAG_MAX_AGENTS * CTF_FEATURES];
  float numbers[CTF_NUMBERS];
} capture_the_flag_obs;

typedef struct {
  float points;
} capture_the_flag_log;


static inline int32_t ctf_distance(int32_t a, int32_t b) { return a < b ? b - a : a - b; }


static inline int32_t ctf_clip(int32_t x, int32_t last) { return x < 0 ? 0 : x > last ? last : x; }


// a column as the other team counts it
static inline int32_t ctf_seen(const capture_the_flag_params *p, int32_t ahead) { return 2 * p->half - 1 - ahead; }


static inline int32_t ctf_team(const capture_the_flag_params *p, int32_t a) { return a >= p->team_size; }


static inline int32_t ctf_carries(const capture_the_flag_params *p, const capture_the_flag_state *s, int32_t a) {
  int32_t team = ctf_team(p, a);
  return s->carrier[team] == a - team * p->team_size;
}


// all who are free walk at once, and nobody is in another's way; the field ends, and the ground around the own flag is
// closed
static inline void ctf_walk(const capture_the_flag_params *p, capture_the_flag_state *s, const int32_t *action) {
  for (int32_t a = 0; a < CTF_TEAMS * p->team_size; a++) {
    int32_t row = s->row[a] + (action[a] == CTF_DOWN) - (action[a] == CTF_UP);
    int32_t ahead = s->ahead[a] + (action[a] == CTF_AHEAD) - (action[a] == CTF_BACK);
    row = ctf_clip(row, p->rows - 1);
    ahead = ctf_clip(ahead, 2 * p->half - 1);
    int32_t closed = ctf_distance(row, s->flag_row) <= CTF_GROUND && ctf_distance(ahead, CTF_FLAG) <= CTF_GROUND;
    if (s->jailed[a] == 0 && !closed) {
      s->row[a] = row;
      s->ahead[a] = ahead;
    }
  }
}


// who is in the enemy's half and has an opponent in that half within reach is tagged
static inline void ctf_tag(const capture_the_flag_params *p, const capture_the_flag_state *s, int32_t *tagged) {
  int32_t n = p->team_size;
  for (int32_t a = 0; a < CTF_TEAMS * n; a++) {
    int32_t first = a < n ? n : 0;
    tagged[a] = 0;
    for (int32_t b = first; b < first + n; b++) {
      int32_t apart = ctf_distance(s->row[a], s->row[b]) + ctf_distance(s->ahead[a], ctf_seen(p, s->ahead[b]));
      tagged[a] |= s->jailed[b] == 0 && s->ahead[b] < p->half && apart <= CTF_REACH;
    }
    tagged[a] &= s->jailed[a] == 0 && s->ahead[a] >= p->half;
  }
}


// who is tagged goes to jail; who has been there is freed by a mate who comes, or when the time is up, and is at home
static inline void ctf_jail(const capture_the_flag_params *p, capture_the_flag_state *s, const int32_t *tagged) {
  int32_t n = p->team_size, jail = ctf_seen(p, CTF_JAIL);
  for (int32_t team = 0; team < CTF_TEAMS; team++) {
    int32_t comes = 0;
    for (int32_t a = team * n; a < (team + 1) * n; a++)
      comes |= s->jailed[a] == 0 && !tagged[a] && s->row[a] == 0 && s->ahead[a] == jail;
    for (int32_t a = team * n; a < (team + 1) * n; a++) {
      if (tagged[a]) {
        if (ctf_carries(p, s, a)) s->carrier[team] = CTF_NOBODY;
        s->jailed[a] = p->jail_steps;
        s->row[a] = 0;
        s->ahead[a] = jail;
      } else if (s->jailed[a] > 0) {
        s->jailed[a] = comes ? 0 : s->jailed[a] - 1;
        if (s->jailed[a] > 0) continue;
        s->row[a] = s->home_row[a];
        s->ahead[a] = s->home_ahead[a];
      }
    }
  }
}


// the first agent on the enemy's flag takes it if it is there
static inline int32_t ctf_take(const capture_the_flag_params *p, capture_the_flag_state *s, int32_t team) {
  if (s->carrier[team] != CTF_NOBODY) return 0;
  for (int32_t k = 0; k < p->team_size; k++) {
    int32_t a = team * p->team_size + k;
    if (s->jailed[a] == 0 && s->row[a] == s->flag_row && s->ahead[a] == ctf_seen(p, CTF_FLAG)) {
      s->carrier[team] = k;
      return 1;
    }
  }
  return 0;
}


// it is a point when the carrier is in its own half
static inline int32_t ctf_bring_home(const capture_the_flag_params *p, capture_the_flag_state *s, int32_t team) {
  int32_t home = 0;
  for (int32_t a = team * p->team_size; a < (team + 1) * p->team_size; a++)
    home |= ctf_carries(p, s, a) && s->ahead[a] < p->half;
  if (home) s->carrier[team] = CTF_NOBODY;
  s->points[team] += home;
  return home;
}


static inline void capture_the_flag_init(const capture_the_flag_params *p, capture_the_flag_state *s) {
  // both teams begin alike
  s->flag_row = CTF_GROUND + rng_below(s->rng, p->rows - 2 * CTF_GROUND);
  for (int32_t k = 0; k < p->team_size; k++) {
    int32_t row = rng_below(s->rng, p->rows);
    int32_t ahead = CTF_FRONT + rng_below(s->rng, p->half - CTF_FRONT);
    for (int32_t a = k; a < CTF_TEAMS * p->team_size; a += p->team_size) {
      s->row[a] = s->home_row[a] = row;
      s->ahead[a] = s->home_ahead[a] = ahead;
      s->jailed[a] = 0;
    }
  }
  for (int32_t team = 0; team < CTF_TEAMS; team++) {
    s->carrier[team] = CTF_NOBODY;
    s->points[team] = 0;
  }
  s->steps = 0;
}


static inline void capture_the_flag_transition(const capture_the_flag_params *p, capture_the_flag_state *s,
                                               const int32_t *action, outcome *out, int32_t *reset) {
  int32_t n = p->team_size, tagged[CAPTURE_THE_FLAG_MAX_AGENTS], points[CTF_TEAMS], taken[CTF_TEAMS], tags[CTF_TEAMS];
  ctf_walk(p, s, action);
  ctf_tag(p, s, tagged);
  ctf_jail(p, s, tagged);
  for (int32_t team = 0; team < CTF_TEAMS; team++) {
    taken[team] = ctf_take(p, s, team);
    points[team] = ctf_bring_home(p, s, team);
    tags[team] = 0;
    for (int32_t a = (1 - team) * n; a < (2 - team) * n; a++) tags[team] += tagged[a];
  }
  s->steps++;

  // what one team wins the other loses
  int32_t won = s->points[0] >= p->winning_points || s->points[1] >= p->winning_points;
  for (int32_t team = 0; team < CTF_TEAMS; team++) {
    int32_t other = 1 - team;
    float reward = (float)(points[team] - points[other]) + p->flag_reward * (float)(taken[team] - taken[other]);
    reward = reward + p->tag_reward * (float)(tags[team] - tags[other]);
    for (int32_t a = team * n; a < (team + 1) * n; a++) out[a] = (outcome){reward, won, 0};
  }
  *reset = s->steps >= p->max_steps;
}


static inline void capture_the_flag_respawn(const capture_the_flag_params *p, capture_the_flag_state *s,
                                            const uint8_t *ended) {
  // no agent ends before the world does
  (void)p;
  (void)s;
  (void)ended;
}


static inline void capture_the_flag_observe(const capture_the_flag_params *p, const capture_the_flag_state *s,
                                            capture_the_flag_obs *obs) {
  int32_t n = p->team_size;
  float per_row = 1.0f / (float)p->rows, per_column = 1.0f / (float)(2 * p->half);
  float per_jail_step = 1.0f / (float)p->jail_steps, per_point = 1.0f / (float)p->winning_points;
  float per_step = 1.0f / (float)p->max_steps, per_mate = 1.0f / (float)n;
  for (int32_t a = 0; a < CTF_TEAMS * n; a++) {
    int32_t team = ctf_team(p, a), other = 1 - team, number = a - team * n;

    // itself, its mates from the next one on, its opponents
    float *entry = obs[a].agents;
    for (int32_t k = 0; k < CTF_TEAMS * n; k++) {
      int32_t mate = number + k < n ? a + k : a + k - n;
      int32_t b = k < n ? mate : other * n + k - n;
      int32_t ahead = k < n ? s->ahead[b] : ctf_seen(p, s->ahead[b]);
      *entry++ = (float)(k == 0 ? s->row[a] : s->row[b] - s->row[a]) * per_row;
      *entry++ = (float)(k == 0 ? ahead : ahead - s->ahead[a]) * per_column;
      *entry++ = (float)ctf_carries(p, s, b);
      *entry++ = (float)s->jailed[b] * per_jail_step;
    }

    float *numbers = obs[a].numbers;
    numbers[0] = (float)(s->flag_row - s->row[a]) * per_row;
    numbers[1] = (float)(ctf_seen(p, CTF_FLAG) - s->ahead[a]) * per_column;
    numbers[2] = (float)(CTF_FLAG - s->ahead[a]) * per_column;
    numbers[3] = (float)(s->points[team] - s->points[other]) * per_point;
    numbers[4] = (float)(p->max_steps - s->steps) * per_step;
    numbers[5] = (float)number * per_mate;
  }
}


static inline void capture_the_flag_score(const capture_the_flag_params *p, const capture_the_flag_state *s,
                                          float *score) {
  for (int32_t a = 0; a < CTF_TEAMS * p->team_size; a++) {
    int32_t team = ctf_team(p, a);
    score[a] = (float)(s->points[team] - s->points[1 - team]);
  }
}


static inline void capture_the_flag_perf(const capture_the_flag_params *p, const capture_the_flag_state *s,
                                         float *perf) {
  float score[CAPTURE_THE_FLAG_MAX_AGENTS], per_point = 1.0f / (float)p->winning_points;
  capture_the_flag_score(p, s, score);
  for (int32_t a = 0; a < CTF_TEAMS * p->team_size; a++) perf[a] = 0.5f + 0.5f * (score[a] * per_point);
}


static inline void capture_the_flag_figures(const capture_the_flag_params *p, const capture_the_flag_state *s,
                                            capture_the_flag_log *log) {
  for (int32_t a = 0; a < CTF_TEAMS * p->team_size; a++) log[a].points = (float)s->points[ctf_team(p, a)];
}
