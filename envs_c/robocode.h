// robocode.h: two tanks that search for, and shoot at, each other in an arena. Twin of envs_jax/robocode.py.
//
// observation  float32 (23,)  of each tank: its place and the heading of its body; its speed; its gun as seen from the
//                             body, its radar as seen from the gun; heat of the gun; energy. Of the enemy, as the radar
//                             saw it last: how long ago; distance; direction from the body, the gun and the radar;
//                             velocity away and across; energy. The share of the time left
// action       five choices   drive: 0 back, 1 stop, 2 ahead; turn the body: 0 left, 1 not, 2 right; one of nine turns
//                             of the gun; one of seven of the radar; power of a shot, 0 to 3
// reward       energy_reward for each unit of energy gained on the enemy; win_reward, or minus that, at the end
// ends         terminated when a tank is destroyed, truncated after max_steps
#pragma once

#include "env.h"

#define ROBOCODE_MAX_AGENTS 2

enum { ROBOCODE_MOVE, ROBOCODE_TURN, ROBOCODE_GUN, ROBOCODE_RADAR, ROBOCODE_FIRE, ROBOCODE_CHOICES };

// places and velocities are in 1/64 px, headings in quarters of a degree, clockwise from up; energy and heat in tenths
enum {
  ROBOCODE_PX = 64,
  ROBOCODE_HALF = 18 * ROBOCODE_PX,  // of a tank's side
  ROBOCODE_APART = 36,               // px, from the arena's middle line to where tanks start, at least

  ROBOCODE_WHOLE = 1440,      // a whole turn
  ROBOCODE_QUARTER = 360,     // a quarter turn
  ROBOCODE_ONE = 1 << 14,     // a sine of 1
  ROBOCODE_PER_STEP = 8,      // bits: a sine times px per step, in 1/64 px
  ROBOCODE_TURNS = 40,        // 10 degrees per step, of the body at rest
  ROBOCODE_TURNS_LESS = 3,    // 0.75 degrees less for each px per step
  ROBOCODE_GUN_TURNS = 9,
  ROBOCODE_RADAR_TURNS = 7,

  ROBOCODE_MAX_SPEED = 8,     // px per step
  ROBOCODE_BRAKES = 2,        // px per step, in a step
  ROBOCODE_BULLET_SPEED = 20, // px per step
  ROBOCODE_BULLET_SLOWER = 3, // for each unit of power
  ROBOCODE_BULLETS = 8,       // of a tank in flight at once

  ROBOCODE_ENERGY = 1000,     // at the start
  ROBOCODE_COST = 10,         // of a shot, for each unit of power
  ROBOCODE_DAMAGE = 60,       // of a hit, for each unit of power: 4 power + 2 (power - 1)
  ROBOCODE_DAMAGE_LESS = 20,
  ROBOCODE_GAIN = 30,         // of a hit, for each unit of power
  ROBOCODE_WALL = 5,          // damage of a wall, for each px per step: speed / 2 - 1
  ROBOCODE_WALL_LESS = 10,
  ROBOCODE_COLLISION = 6,     // damage to both
  ROBOCODE_START_HEAT = 30,
  ROBOCODE_SHOT_HEAT = 10,    // of a shot: 1 + power / 5
  ROBOCODE_POWER_HEAT = 2,

  ROBOCODE_MAX_AGE = 32,      // steps since the enemy was seen, or more
  ROBOCODE_OBS = 23,
};

#define ROBOCODE_PER_ONE 6.10351562e-5f       // of a sine: 2^-14
#define ROBOCODE_PER_SPEED 0.125f             // 1 / 8 px per step
#define ROBOCODE_PER_VELOCITY 0.001953125f    // 1 / 8 px per step, in 1/64 px: 2^-9
#define ROBOCODE_PER_HEAT 0.0333333333f       // 1 / 30 tenths
#define ROBOCODE_PER_ENERGY 0.001f            // 1 / 1000 tenths
#define ROBOCODE_PER_AGE 0.03125f             // 1 / 32 steps
#define ROBOCODE_PER_LENGTH 1.5625e-5f        // 1 / 1000 px
#define ROBOCODE_PER_TENTH 0.1f               // units of energy

static const int32_t robocode_gun_turns[ROBOCODE_GUN_TURNS] = {-80, -40, -16, -4, 0, 4, 16, 40, 80};
static const int32_t robocode_radar_turns[ROBOCODE_RADAR_TURNS] = {-180, -80, -20, 0, 20, 80, 180};

typedef struct {
  int32_t width;        // px, of the arena
  int32_t height;       // px
  int32_t cooling;      // tenths of the gun's heat that are gone in a step
  float energy_reward;  // for each unit of energy that a tank gains, or the enemy loses
  float win_reward;     // for destroying the enemy
  int32_t max_steps;    // steps before truncation
} robocode_params;

typedef struct {
  uint32_t rng[2];
  int32_t x[2];        // of each tank's middle, from the left
  int32_t y[2];        // from below
  int32_t heading[2];  // of the body
  int32_t gun[2];      // heading of the gun
  int32_t radar[2];    // heading of the radar
  int32_t speed[2];    // px per step, ahead if positive
  int32_t heat[2];     // of the gun; it shoots at 0
  int32_t energy[2];
  int32_t seen_x[2];   // the enemy's place when the radar last saw it
  int32_t seen_y[2];
  int32_t seen_vx[2];  // its velocity
  int32_t seen_vy[2];
  int32_t seen_energy[2];
  int32_t seen_age[2];                      // steps since then, at most 32
  int32_t bullet_x[2 * ROBOCODE_BULLETS];   // of each tank's bullets
  int32_t bullet_y[2 * ROBOCODE_BULLETS];
  int32_t bullet_vx[2 * ROBOCODE_BULLETS];
  int32_t bullet_vy[2 * ROBOCODE_BULLETS];
  int32_t bullet_power[2 * ROBOCODE_BULLETS];  // 0: there is none
  int32_t shots[2];
  int32_t hits[2];
  int32_t steps;       // since the episode began
} robocode_state;

typedef struct {
  float hits;   // of the enemy, with bullets
  float shots;
} robocode_log;


static inline int32_t robocode_clip(int32_t x, int32_t low, int32_t high) {
  return x < low ? low : x > high ? high : x;
}


static inline int32_t robocode_abs(int32_t x) { return x < 0 ? -x : x; }


// a heading turned by less than a whole turn, clockwise if positive
static inline int32_t robocode_turned(int32_t heading, int32_t by) {
  int32_t turned = heading + by;
  return turned < 0 ? turned + ROBOCODE_WHOLE : turned >= ROBOCODE_WHOLE ? turned - ROBOCODE_WHOLE : turned;
}


// the cosine of a heading, times 2^14: the sine of the rest of a quarter turn, a polynomial in whole numbers that is
// 1.3e-4 off at most
static inline int32_t robocode_cosine(int32_t heading) {
  int32_t r = robocode_abs(heading - ROBOCODE_WHOLE / 2) - ROBOCODE_QUARTER, q = r * r;
  return (r * (36588 - ((q * (7559 - ((q * 1700) >> 18))) >> 16)) + 256) >> 9;
}


static inline int32_t robocode_sine(int32_t heading) {
  return robocode_cosine(robocode_turned(heading, -ROBOCODE_QUARTER));
}


// how far something of this speed, in px per step, gets in a step, to the right and upwards
static inline void robocode_velocity(int32_t heading, int32_t speed, int32_t *vx, int32_t *vy) {
  int32_t half = 1 << (ROBOCODE_PER_STEP - 1);
  *vx = (speed * robocode_sine(heading) + half) >> ROBOCODE_PER_STEP;
  *vy = (speed * robocode_cosine(heading) + half) >> ROBOCODE_PER_STEP;
}


static inline void robocode_init(const robocode_params *p, robocode_state *s) {
  uint32_t stream[2] = {s->rng[0], s->rng[1]};
  int32_t edge = ROBOCODE_HALF / ROBOCODE_PX, left = rng_below(stream, 2);
  memset(s, 0, sizeof *s);
  for (int32_t a = 0; a < 2; a++) {
    // one in the left half of the arena, one in the right
    int32_t x = edge + rng_below(stream, p->width / 2 - ROBOCODE_APART - edge);
    s->x[a] = (a == left ? x : p->width - x) * ROBOCODE_PX;
    s->y[a] = (edge + rng_below(stream, p->height - 2 * edge + 1)) * ROBOCODE_PX;
    s->heading[a] = s->gun[a] = s->radar[a] = rng_below(stream, ROBOCODE_WHOLE);
    s->heat[a] = ROBOCODE_START_HEAT;
    s->energy[a] = ROBOCODE_ENERGY;

    // the enemy has not been seen: as if it had been in the middle, long ago
    s->seen_x[a] = p->width * (ROBOCODE_PX / 2);
    s->seen_y[a] = p->height * (ROBOCODE_PX / 2);
    s->seen_energy[a] = ROBOCODE_ENERGY;
    s->seen_age[a] = ROBOCODE_MAX_AGE;
  }
  s->rng[0] = stream[0];
  s->rng[1] = stream[1];
}


// bullets fly on, and hit the enemy if their way of this step crosses its square, or leave the arena
static inline void robocode_fly(const robocode_params *p, robocode_state *s) {
  for (int32_t i = 0; i < 2 * ROBOCODE_BULLETS; i++) {
    if (s->bullet_power[i] == 0) continue;
    int32_t a = i / ROBOCODE_BULLETS, enemy = 1 - a, power = s->bullet_power[i];
    int32_t vx = s->bullet_vx[i], vy = s->bullet_vy[i], wide = robocode_abs(vx), high = robocode_abs(vy);
    s->bullet_x[i] += vx;
    s->bullet_y[i] += vy;

    // twice the offset of the way's middle, and the square's half sides along both axes and across the way
    int32_t dx = s->bullet_x[i] - s->x[enemy], dy = s->bullet_y[i] - s->y[enemy];
    int32_t hit = robocode_abs(2 * dx - vx) <= 2 * ROBOCODE_HALF + wide &&
                  robocode_abs(2 * dy - vy) <= 2 * ROBOCODE_HALF + high &&
                  robocode_abs(dx * vy - dy * vx) <= ROBOCODE_HALF * (wide + high);
    if (hit) {
      s->energy[enemy] -= ROBOCODE_DAMAGE * power - ROBOCODE_DAMAGE_LESS;
      s->energy[a] += ROBOCODE_GAIN * power;
      s->hits[a]++;
    }
    int32_t inside = s->bullet_x[i] >= 0 && s->bullet_x[i] <= p->width * ROBOCODE_PX && s->bullet_y[i] >= 0 &&
                     s->bullet_y[i] <= p->height * ROBOCODE_PX;
    if (hit || !inside) s->bullet_power[i] = 0;
  }
}


// guns cool, and shoot if they can, with the first bullet that is not in flight
static inline void robocode_fire(const robocode_params *p, robocode_state *s, const int32_t *action) {
  for (int32_t a = 0; a < 2; a++) {
    int32_t power = action[a * ROBOCODE_CHOICES + ROBOCODE_FIRE], cost = ROBOCODE_COST * power;
    s->heat[a] = s->heat[a] > p->cooling ? s->heat[a] - p->cooling : 0;
    if (power == 0 || s->heat[a] > 0 || s->energy[a] <= cost) continue;
    int32_t i = a * ROBOCODE_BULLETS, end = i + ROBOCODE_BULLETS;
    while (i < end && s->bullet_power[i] > 0) i++;
    if (i == end) continue;
    s->bullet_x[i] = s->x[a];
    s->bullet_y[i] = s->y[a];
    robocode_velocity(s->gun[a], ROBOCODE_BULLET_SPEED - ROBOCODE_BULLET_SLOWER * power, &s->bullet_vx[i],
                      &s->bullet_vy[i]);
    s->bullet_power[i] = power;
    s->energy[a] -= cost;
    s->heat[a] = ROBOCODE_SHOT_HEAT + ROBOCODE_POWER_HEAT * power;
    s->shots[a]++;
  }
}


// tanks turn and drive, at most to the walls, and stay where they are if they would overlap
static inline void robocode_drive(const robocode_params *p, robocode_state *s, const int32_t *action) {
  int32_t x[2], y[2];
  for (int32_t a = 0; a < 2; a++) {
    const int32_t *own = action + a * ROBOCODE_CHOICES;
    int32_t speed = s->speed[a], drive = own[ROBOCODE_MOVE] - 1;

    // the body turns slower at speed; the gun turns with it, and the radar with the gun
    int32_t body = (own[ROBOCODE_TURN] - 1) * (ROBOCODE_TURNS - ROBOCODE_TURNS_LESS * robocode_abs(speed));
    int32_t gun = body + robocode_gun_turns[own[ROBOCODE_GUN]];
    int32_t radar = gun + robocode_radar_turns[own[ROBOCODE_RADAR]];
    s->heading[a] = robocode_turned(s->heading[a], body);
    s->gun[a] = robocode_turned(s->gun[a], gun);
    s->radar[a] = robocode_turned(s->radar[a], radar);

    // faster, or braking until it stands
    if (speed == 0 || speed * drive > 0)
      speed = robocode_clip(speed + drive, -ROBOCODE_MAX_SPEED, ROBOCODE_MAX_SPEED);
    else
      speed -= robocode_clip(speed, -ROBOCODE_BRAKES, ROBOCODE_BRAKES);

    // at a wall it stops, and is damaged if it was fast
    int32_t vx, vy;
    robocode_velocity(s->heading[a], speed, &vx, &vy);
    x[a] = robocode_clip(s->x[a] + vx, ROBOCODE_HALF, p->width * ROBOCODE_PX - ROBOCODE_HALF);
    y[a] = robocode_clip(s->y[a] + vy, ROBOCODE_HALF, p->height * ROBOCODE_PX - ROBOCODE_HALF);
    if (x[a] != s->x[a] + vx || y[a] != s->y[a] + vy) {
      int32_t damage = ROBOCODE_WALL * robocode_abs(speed) - ROBOCODE_WALL_LESS;
      if (damage > 0) s->energy[a] -= damage;
      speed = 0;
    }
    s->speed[a] = speed;
  }

  // they collide
  int32_t collide = robocode_abs(x[0] - x[1]) < 2 * ROBOCODE_HALF && robocode_abs(y[0] - y[1]) < 2 * ROBOCODE_HALF;
  for (int32_t a = 0; a < 2; a++) {
    if (collide) {
      s->speed[a] = 0;
      s->energy[a] -= ROBOCODE_COLLISION;
    } else {
      s->x[a] = x[a];
      s->y[a] = y[a];
    }
  }
}


// radars see the enemy if its middle is in the sector that they swept, or 18 px from it at most
static inline void robocode_scan(robocode_state *s, const int32_t *before) {
  for (int32_t a = 0; a < 2; a++) {
    int32_t enemy = 1 - a, dx = s->x[enemy] - s->x[a], dy = s->y[enemy] - s->y[a], reach = ROBOCODE_HALF * ROBOCODE_ONE;
    int32_t turned = robocode_turned(s->radar[a], -before[a]);
    int32_t clockwise = turned < ROBOCODE_WHOLE / 2;
    int32_t left = clockwise ? before[a] : s->radar[a], right = clockwise ? s->radar[a] : before[a];
    int32_t left_x = robocode_sine(left), left_y = robocode_cosine(left);
    int32_t right_x = robocode_sine(right), right_y = robocode_cosine(right);
    int32_t sees = dx * left_y - dy * left_x >= -reach && dx * right_y - dy * right_x <= reach &&
                   (dx * left_x + dy * left_y > 0 || dx * right_x + dy * right_y > 0);
    s->seen_age[a] = robocode_clip(s->seen_age[a] + 1, 0, ROBOCODE_MAX_AGE);
    if (!sees) continue;
    s->seen_x[a] = s->x[enemy];
    s->seen_y[a] = s->y[enemy];
    robocode_velocity(s->heading[enemy], s->speed[enemy], &s->seen_vx[a], &s->seen_vy[a]);
    s->seen_energy[a] = s->energy[enemy];
    s->seen_age[a] = 0;
  }
}


static inline void robocode_transition(const robocode_params *p, robocode_state *s, const int32_t *action,
                                       outcome *out, int32_t *reset) {
  int32_t radar[2] = {s->radar[0], s->radar[1]}, gone[2], gained[2] = {-s->energy[0], -s->energy[1]};
  robocode_fly(p, s);
  robocode_fire(p, s, action);
  robocode_drive(p, s, action);
  for (int32_t a = 0; a < 2; a++) s->energy[a] = s->energy[a] > 0 ? s->energy[a] : 0;
  robocode_scan(s, radar);
  s->steps++;

  // what one wins the other loses
  for (int32_t a = 0; a < 2; a++) {
    gone[a] = s->energy[a] == 0;
    gained[a] += s->energy[a];
  }
  for (int32_t a = 0; a < 2; a++) {
    float change = (float)(gained[a] - gained[1 - a]) * (p->energy_reward * ROBOCODE_PER_TENTH);
    out[a].reward = change + (float)(gone[1 - a] - gone[a]) * p->win_reward;
    out[a].terminated = gone[0] || gone[1];
    out[a].truncated = s->steps >= p->max_steps;
  }
  *reset = 0;
}


// tanks end only together
static inline void robocode_respawn(const robocode_params *p, robocode_state *s, const uint8_t *ended) {
  (void)p;
  (void)s;
  (void)ended;
}


// a direction, its parts to the right and ahead, as seen from what is turned by a heading
static inline void robocode_from(int32_t heading, float *right, float *ahead) {
  float sine = (float)robocode_sine(heading) * ROBOCODE_PER_ONE;
  float cosine = (float)robocode_cosine(heading) * ROBOCODE_PER_ONE;
  float x = *right, y = *ahead;
  *right = x * cosine - y * sine;
  *ahead = x * sine + y * cosine;
}


static inline void robocode_observe(const robocode_params *p, const robocode_state *s, float *all) {
  for (int32_t a = 0; a < 2; a++) {
    float *obs = all + a * ROBOCODE_OBS;

    // the tank
    int32_t gun = robocode_turned(s->gun[a], -s->heading[a]), radar = robocode_turned(s->radar[a], -s->gun[a]);
    int32_t wide = p->width * ROBOCODE_PX, high = p->height * ROBOCODE_PX;
    obs[0] = (float)(2 * s->x[a] - wide) * (1.0f / (float)wide);
    obs[1] = (float)(2 * s->y[a] - high) * (1.0f / (float)high);
    obs[2] = (float)robocode_sine(s->heading[a]) * ROBOCODE_PER_ONE;
    obs[3] = (float)robocode_cosine(s->heading[a]) * ROBOCODE_PER_ONE;
    obs[4] = (float)s->speed[a] * ROBOCODE_PER_SPEED;
    obs[5] = (float)robocode_sine(gun) * ROBOCODE_PER_ONE;
    obs[6] = (float)robocode_cosine(gun) * ROBOCODE_PER_ONE;
    obs[7] = (float)robocode_sine(radar) * ROBOCODE_PER_ONE;
    obs[8] = (float)robocode_cosine(radar) * ROBOCODE_PER_ONE;
    obs[9] = (float)s->heat[a] * ROBOCODE_PER_HEAT;
    obs[10] = (float)s->energy[a] * ROBOCODE_PER_ENERGY;

    // the enemy, where it was seen last
    float dx = (float)(s->seen_x[a] - s->x[a]), dy = (float)(s->seen_y[a] - s->y[a]);
    float distance = num_sqrt(dx * dx + dy * dy), length = distance > 0.0f ? distance : 1.0f;
    float ux = dx / length, uy = dy / length, vx = (float)s->seen_vx[a], vy = (float)s->seen_vy[a];
    float right = ux, ahead = uy;
    obs[11] = (float)s->seen_age[a] * ROBOCODE_PER_AGE;
    obs[12] = distance * ROBOCODE_PER_LENGTH;
    robocode_from(s->heading[a], &right, &ahead);
    obs[13] = right;
    obs[14] = ahead;
    robocode_from(gun, &right, &ahead);
    obs[15] = right;
    obs[16] = ahead;
    robocode_from(radar, &right, &ahead);
    obs[17] = right;
    obs[18] = ahead;
    obs[19] = (vx * ux + vy * uy) * ROBOCODE_PER_VELOCITY;
    obs[20] = (vx * uy - vy * ux) * ROBOCODE_PER_VELOCITY;
    obs[21] = (float)s->seen_energy[a] * ROBOCODE_PER_ENERGY;
    obs[22] = (float)(p->max_steps - s->steps) * (1.0f / (float)p->max_steps);
  }
}


// 1 for the tank with more energy, -1 for the other, 0 if they have the same
static inline void robocode_score(const robocode_params *p, const robocode_state *s, float *score) {
  (void)p;
  for (int32_t a = 0; a < 2; a++) {
    int32_t lead = s->energy[a] - s->energy[1 - a];
    score[a] = (float)((lead > 0) - (lead < 0));
  }
}


static inline void robocode_perf(const robocode_params *p, const robocode_state *s, float *perf) {
  robocode_score(p, s, perf);
  for (int32_t a = 0; a < 2; a++) perf[a] = 0.5f + 0.5f * perf[a];
}


static inline void robocode_figures(const robocode_params *p, const robocode_state *s, robocode_log *log) {
  (void)p;
  for (int32_t a = 0; a < 2; a++) {
    log[a].hits = (float)s->hits[a];
    log[a].shots = (float)s->shots[a];
  }
}
