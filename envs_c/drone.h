// drone.h: quadrotors that hover, race through rings and fly in formation. Twin of envs_jax/drone.py.
//
// observation  float32 (25,) per drone, in its own frame: target, ring's direction, velocity, up, turning,
//              rotors, the nearest other drone, and which task
// action       float 4 in [-1, 1]: rotors' speeds, 0 hovers: front left, front right, back right, back left
// reward       getting nearer to the target, staying close to it, 1 for a ring, -1 for a crash; penalties for
//              spinning and for crowding
// ends         a drone is terminated when it leaves the space, hits a rim, or has flown its last ring; it starts
//              again at once. The world is reset after max_steps, which truncates the others
#pragma once

#include "env.h"

enum { DRONE_HOVER, DRONE_RACE, DRONE_SWARM, DRONE_TASKS };         // as params.task, DRONE_TASKS draws one for each world
enum { DRONE_LINE, DRONE_CIRCLE, DRONE_SQUARE, DRONE_FORMATIONS };

// a body's motion: position in m, velocity in m/s, quaternion, turning in rad/s about its own axes (ahead, left, up)
enum {
  DRONE_X, DRONE_Y, DRONE_Z, DRONE_VX, DRONE_VY, DRONE_VZ,
  DRONE_QW, DRONE_QX, DRONE_QY, DRONE_QZ, DRONE_WX, DRONE_WY, DRONE_WZ, DRONE_BODY,
};

enum { DRONE_MAX_AGENTS = 12, DRONE_ROTORS = 4, DRONE_OBS = 25 };

#define DRONE_STEP 0.02f                // s
#define DRONE_HALF_STEP 0.01f           // s
#define DRONE_SIXTH_STEP 0.0033333334f  // s
#define DRONE_BOUND 10.0f               // m, from the middle of the space to each wall
#define DRONE_START 6.0f                // m, drones and targets begin at most this far from the middle, along each axis
#define DRONE_MAX_RATE 20.0f            // rad/s, of turning about an axis
#define DRONE_PER_LENGTH 0.2f           // 1/m, scale of observed offsets
#define DRONE_PER_SPEED 0.2f            // s/m, of velocities
#define DRONE_PER_RATE 0.1f             // s/rad, of turning
#define DRONE_MAX_THRUST 4.8f           // N, of a rotor at full speed: 3e-5 N s^2 times (400 rad/s)^2
#define DRONE_HOVER_SPEED 0.715f        // of full speed: four rotors then carry 1 kg
#define DRONE_SPEED_RANGE 0.285f        // of full speed, up or down
#define DRONE_MOTOR_SHARE 0.33f         // of the way to the commanded speed in a step: a time constant of 0.05 s
#define DRONE_ROLL_GAIN 7.07f           // 1/(kg m): rotors 0.0707 m off each axis, 0.01 kg m^2 about x and y
#define DRONE_YAW_GAIN 1.0f             // 1/(kg m): a torque of 0.02 m times the thrust, 0.02 kg m^2 about z
#define DRONE_ROLL_DRAG 5.0f            // 1/kg: drag on turning is 0.05 m^2 times the drag on moving, over the inertia
#define DRONE_YAW_DRAG 2.5f             // 1/kg
#define DRONE_GYRO 1.0f                 // inertia about z minus that about x, over that about x
#define DRONE_RING_SQUARED 1.0f         // m^2, of a ring's radius
#define DRONE_RIM_SQUARED 1.44f         // m^2: the rim is 0.2 m thick
#define DRONE_NEAR_SQUARED 1.0f         // m^2: closer than this, drones of a swarm crowd
#define DRONE_SPACING 1.25f             // m, between neighbours of a formation
#define DRONE_CIRCLE_SPACING 0.1989437f // m per drone: spacing over a full turn
#define DRONE_CENTRE 2.0f               // m, a formation's middle is within this of the space's
#define DRONE_TURN 6.2831853f           // rad
#define DRONE_HALF_TURN 3.14159265f     // rad
#define DRONE_MAX_CLIMB 0.5f            // rad, of a ring's direction
#define DRONE_NOBODY 1e9f               // m^2, further than any drone

typedef struct {
  int32_t num_drones;
  int32_t task;              // hover, race, swarm, or drawn for each world
  int32_t num_rings;         // rings of a race
  int32_t formation_steps;   // steps until a swarm takes another form
  float gravity;             // m/s^2
  float drag;                // N s/m
  float randomization;       // mass, thrust and inertia of each drone differ by up to this share
  float progress_reward;     // per m nearer to the target
  float close_reward;        // per step at the target; half of it at a distance of 1 m
  float spin_penalty;        // per (rad/s)^2 and step
  float crowd_penalty;       // per step of a swarm's drone within 1 m of another
  int32_t max_steps;         // steps of the world before it is reset
} drone_params;

typedef struct {
  uint32_t rng[2];
  float body[DRONE_MAX_AGENTS * DRONE_BODY];
  float rotor[DRONE_MAX_AGENTS * DRONE_ROTORS];  // speeds, of full speed
  float scale[DRONE_MAX_AGENTS * 3];             // lightness, thrust and nimbleness, relative to the standard drone
  float target[DRONE_MAX_AGENTS * 3];            // m; in a race the middle of the next ring
  float normal[DRONE_MAX_AGENTS * 3];            // the direction in which to fly through it
  float closeness[DRONE_MAX_AGENTS];             // summed over the episode
  int32_t rings[DRONE_MAX_AGENTS];               // flown
  int32_t task;
  int32_t formation;
  float centre[3];                               // m, of the formation
  int32_t steps;                                 // since the world began
} drone_state;


// the place of drone i in the formation
static inline void drone_slot(const drone_params *p, const drone_state *s, int32_t i, float *slot) {
  int32_t n = p->num_drones;
  float x, y;
  if (s->formation == DRONE_LINE) {
    x = ((float)i - 0.5f * (float)(n - 1)) * DRONE_SPACING;
    y = 0.0f;
  } else if (s->formation == DRONE_CIRCLE) {
    float angle = (float)i * (DRONE_TURN * (1.0f / (float)n));
    float radius = (float)n * DRONE_CIRCLE_SPACING;
    x = radius * num_cos(angle);
    y = radius * num_sin(angle);
  } else {
    int32_t side = 1;
    while (side * side < n) side++;
    float middle = 0.5f * (float)(side - 1);
    x = ((float)(i % side) - middle) * DRONE_SPACING;
    y = ((float)(i / side) - middle) * DRONE_SPACING;
  }
  slot[0] = s->centre[0] + x;
  slot[1] = s->centre[1] + y;
  slot[2] = s->centre[2];
}


// a formation and the place of its middle
static inline void drone_draw_formation(drone_state *s) {
  s->formation = rng_below(s->rng, DRONE_FORMATIONS);
  for (int32_t k = 0; k < 3; k++) s->centre[k] = rng_uniform(s->rng, -DRONE_CENTRE, DRONE_CENTRE);
}


// a target at random, and a direction through it that leads away from the drone
static inline void drone_draw_target(drone_state *s, int32_t i) {
  const float *b = s->body + i * DRONE_BODY;
  float *target = s->target + i * 3, *normal = s->normal + i * 3;
  for (int32_t k = 0; k < 3; k++) target[k] = rng_uniform(s->rng, -DRONE_START, DRONE_START);
  float heading = rng_uniform(s->rng, -DRONE_HALF_TURN, DRONE_HALF_TURN);
  float climb = rng_uniform(s->rng, -DRONE_MAX_CLIMB, DRONE_MAX_CLIMB);
  float level = num_cos(climb);
  normal[0] = level * num_cos(heading);
  normal[1] = level * num_sin(heading);
  normal[2] = num_sin(climb);
  float ahead = normal[0] * (target[0] - b[DRONE_X]) + normal[1] * (target[1] - b[DRONE_Y]) +
                normal[2] * (target[2] - b[DRONE_Z]);
  float sign = ahead < 0.0f ? -1.0f : 1.0f;
  for (int32_t k = 0; k < 3; k++) normal[k] = sign * normal[k];
}


// a drone with its own properties at random, level and at rest, with its first target
static inline void drone_spawn(const drone_params *p, drone_state *s, int32_t i) {
  float *b = s->body + i * DRONE_BODY;
  for (int32_t j = 0; j < DRONE_BODY; j++) b[j] = 0.0f;
  for (int32_t k = 0; k < 3; k++) b[k] = rng_uniform(s->rng, -DRONE_START, DRONE_START);
  float half_heading = 0.5f * rng_uniform(s->rng, -DRONE_HALF_TURN, DRONE_HALF_TURN);
  b[DRONE_QW] = num_cos(half_heading);
  b[DRONE_QZ] = num_sin(half_heading);
  for (int32_t k = 0; k < DRONE_ROTORS; k++) s->rotor[i * DRONE_ROTORS + k] = DRONE_HOVER_SPEED;
  for (int32_t k = 0; k < 3; k++)
    s->scale[i * 3 + k] = 1.0f + rng_uniform(s->rng, -p->randomization, p->randomization);
  drone_draw_target(s, i);
  if (s->task == DRONE_SWARM) drone_slot(p, s, i, s->target + i * 3);
  s->closeness[i] = 0.0f;
  s->rings[i] = 0;
}


// reset the drones that ended, one after the other
static inline void drone_respawn(const drone_params *p, drone_state *s, const uint8_t *ended) {
  for (int32_t i = 0; i < p->num_drones; i++)
    if (ended[i]) drone_spawn(p, s, i);
}


static inline void drone_init(const drone_params *p, drone_state *s) {
  int32_t drawn = rng_below(s->rng, DRONE_TASKS);
  s->task = p->task == DRONE_TASKS ? drawn : p->task;
  s->steps = 0;
  drone_draw_formation(s);
  for (int32_t i = 0; i < p->num_drones; i++) drone_spawn(p, s, i);
}


// how the body's motion changes under its rotors' push and turn
static inline void drone_derivative(float push, const float *turn, const float *per_drag, float gravity,
                                    const float *b, float *d) {
  float qw = b[DRONE_QW], qx = b[DRONE_QX], qy = b[DRONE_QY], qz = b[DRONE_QZ];
  float wx = b[DRONE_WX], wy = b[DRONE_WY], wz = b[DRONE_WZ];

  // the rotors push along the body's z axis
  d[DRONE_X] = b[DRONE_VX];
  d[DRONE_Y] = b[DRONE_VY];
  d[DRONE_Z] = b[DRONE_VZ];
  d[DRONE_VX] = push * (2.0f * (qx * qz + qw * qy)) - per_drag[0] * b[DRONE_VX];
  d[DRONE_VY] = push * (2.0f * (qy * qz - qw * qx)) - per_drag[0] * b[DRONE_VY];
  d[DRONE_VZ] = push * (1.0f - 2.0f * (qx * qx + qy * qy)) - per_drag[0] * b[DRONE_VZ] - gravity;

  // half the quaternion times the turning
  d[DRONE_QW] = -0.5f * (qx * wx + qy * wy + qz * wz);
  d[DRONE_QX] = 0.5f * (qw * wx + qy * wz - qz * wy);
  d[DRONE_QY] = 0.5f * (qw * wy + qz * wx - qx * wz);
  d[DRONE_QZ] = 0.5f * (qw * wz + qx * wy - qy * wx);

  // Euler's equations
  d[DRONE_WX] = turn[0] - per_drag[1] * wx - DRONE_GYRO * (wy * wz);
  d[DRONE_WY] = turn[1] - per_drag[1] * wy + DRONE_GYRO * (wx * wz);
  d[DRONE_WZ] = turn[2] - per_drag[2] * wz;
}


// a step of the motion, classical Runge-Kutta of the fourth order
static inline void drone_move(const drone_params *p, const float *scale, const float *rotor, float *b) {
  // thrusts, and the forces and torques that they produce
  float strength = scale[1] * DRONE_MAX_THRUST;
  float t0 = strength * (rotor[0] * rotor[0]), t1 = strength * (rotor[1] * rotor[1]);
  float t2 = strength * (rotor[2] * rotor[2]), t3 = strength * (rotor[3] * rotor[3]);
  float push = scale[0] * (t0 + t1 + t2 + t3);
  float roll = scale[2] * DRONE_ROLL_GAIN, yaw = scale[2] * DRONE_YAW_GAIN;
  float turn[3] = {roll * (t0 - t1 - t2 + t3), roll * (t2 + t3 - t0 - t1), yaw * (t0 - t1 + t2 - t3)};
  float turning_drag = p->drag * scale[2];
  float per_drag[3] = {p->drag * scale[0], turning_drag * DRONE_ROLL_DRAG, turning_drag * DRONE_YAW_DRAG};

  float k1[DRONE_BODY], k2[DRONE_BODY], k3[DRONE_BODY], k4[DRONE_BODY], at[DRONE_BODY];
  drone_derivative(push, turn, per_drag, p->gravity, b, k1);
  for (int32_t j = 0; j < DRONE_BODY; j++) at[j] = b[j] + DRONE_HALF_STEP * k1[j];
  drone_derivative(push, turn, per_drag, p->gravity, at, k2);
  for (int32_t j = 0; j < DRONE_BODY; j++) at[j] = b[j] + DRONE_HALF_STEP * k2[j];
  drone_derivative(push, turn, per_drag, p->gravity, at, k3);
  for (int32_t j = 0; j < DRONE_BODY; j++) at[j] = b[j] + DRONE_STEP * k3[j];
  drone_derivative(push, turn, per_drag, p->gravity, at, k4);
  for (int32_t j = 0; j < DRONE_BODY; j++)
    b[j] = b[j] + DRONE_SIXTH_STEP * (k1[j] + 2.0f * k2[j] + 2.0f * k3[j] + k4[j]);

  // limit the turning, and correct the quaternion's length to 1 by a step of Newton's method
  for (int32_t j = DRONE_WX; j <= DRONE_WZ; j++) b[j] = num_clip(b[j], -DRONE_MAX_RATE, DRONE_MAX_RATE);
  float *q = b + DRONE_QW;
  float correction = 1.5f - 0.5f * (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
  for (int32_t k = 0; k < 4; k++) q[k] = q[k] * correction;
}


// the offset from drone i to the nearest other one; returns its square; DRONE_NOBODY and a zero offset if there is none
static inline float drone_nearest(const drone_params *p, const drone_state *s, int32_t i, float *offset) {
  const float *b = s->body + i * DRONE_BODY;
  float least = DRONE_NOBODY;
  offset[0] = offset[1] = offset[2] = 0.0f;
  for (int32_t j = 0; j < p->num_drones; j++) {
    const float *other = s->body + j * DRONE_BODY;
    float x = other[DRONE_X] - b[DRONE_X], y = other[DRONE_Y] - b[DRONE_Y], z = other[DRONE_Z] - b[DRONE_Z];
    float squared = x * x + y * y + z * z;
    if (j == i || squared >= least) continue;
    least = squared;
    offset[0] = x;
    offset[1] = y;
    offset[2] = z;
  }
  return least;
}


static inline void drone_transition(const drone_params *p, drone_state *s, const float *action, outcome *out,
                                    int32_t *reset) {
  s->steps++;
  *reset = s->steps >= p->max_steps;
  int32_t racing = s->task == DRONE_RACE;
  int32_t passed[DRONE_MAX_AGENTS];
  for (int32_t i = 0; i < p->num_drones; i++) {
    float *b = s->body + i * DRONE_BODY, *rotor = s->rotor + i * DRONE_ROTORS;
    const float *target = s->target + i * 3, *normal = s->normal + i * 3;

    // the rotors' speeds approach the commanded ones, and the body moves
    for (int32_t k = 0; k < DRONE_ROTORS; k++) {
      float command = DRONE_HOVER_SPEED + DRONE_SPEED_RANGE * num_clip(action[i * DRONE_ROTORS + k], -1.0f, 1.0f);
      rotor[k] = rotor[k] + DRONE_MOTOR_SHARE * (command - rotor[k]);
    }
    float x0 = b[DRONE_X] - target[0], y0 = b[DRONE_Y] - target[1], z0 = b[DRONE_Z] - target[2];
    drone_move(p, s->scale + i * 3, rotor, b);
    float x1 = b[DRONE_X] - target[0], y1 = b[DRONE_Y] - target[1], z1 = b[DRONE_Z] - target[2];

    // does it cross the ring's plane, and where?
    float before = normal[0] * x0 + normal[1] * y0 + normal[2] * z0;
    float after = normal[0] * x1 + normal[1] * y1 + normal[2] * z1;
    int32_t crossed = racing && before < 0.0f && after >= 0.0f;
    float share = crossed ? before / (before - after) : 0.0f;
    float x = x0 + share * (x1 - x0), y = y0 + share * (y1 - y0), z = z0 + share * (z1 - z0);
    float off = x * x + y * y + z * z;
    passed[i] = crossed && off <= DRONE_RING_SQUARED;
    int32_t rim = crossed && !passed[i] && off <= DRONE_RIM_SQUARED;
    s->rings[i] += passed[i];

    // has it left the space, or flown the last ring?
    int32_t outside = num_abs(b[DRONE_X]) > DRONE_BOUND || num_abs(b[DRONE_Y]) > DRONE_BOUND ||
                      num_abs(b[DRONE_Z]) > DRONE_BOUND;
    int32_t crashed = outside || rim;
    out[i].terminated = crashed || (racing && s->rings[i] >= p->num_rings);
    out[i].truncated = 0;

    // being near the target is rewarded, spinning is penalised
    float distance0 = num_sqrt(x0 * x0 + y0 * y0 + z0 * z0), distance1 = num_sqrt(x1 * x1 + y1 * y1 + z1 * z1);
    float close = 1.0f / (1.0f + distance1);
    s->closeness[i] = s->closeness[i] + close;
    float spin = b[DRONE_WX] * b[DRONE_WX] + b[DRONE_WY] * b[DRONE_WY] + b[DRONE_WZ] * b[DRONE_WZ];
    float reward = p->progress_reward * (distance0 - distance1) - p->spin_penalty * spin;
    reward = reward + (racing ? (float)passed[i] : p->close_reward * close);
    out[i].reward = crashed ? -1.0f : reward;
  }

  // after all have moved: crowding in a swarm
  for (int32_t i = 0; i < p->num_drones; i++) {
    float offset[3];
    int32_t crowded = drone_nearest(p, s, i, offset) < DRONE_NEAR_SQUARED;
    if (s->task == DRONE_SWARM && crowded && !out[i].terminated) out[i].reward = out[i].reward - p->crowd_penalty;
  }

  // a drone that flew a ring gets the next one
  for (int32_t i = 0; i < p->num_drones; i++)
    if (passed[i]) drone_draw_target(s, i);

  // a swarm gets a new formation from time to time
  if (s->task == DRONE_SWARM && s->steps % p->formation_steps == 0) {
    drone_draw_formation(s);
    for (int32_t i = 0; i < p->num_drones; i++) drone_slot(p, s, i, s->target + i * 3);
  }
}


// a vector of the world in the drone's frame
static inline void drone_inward(const float *b, float x, float y, float z, float scale, float *seen) {
  float qw = b[DRONE_QW], qx = b[DRONE_QX], qy = b[DRONE_QY], qz = b[DRONE_QZ];
  seen[0] = scale * ((1.0f - 2.0f * (qy * qy + qz * qz)) * x + 2.0f * (qx * qy + qw * qz) * y +
                     2.0f * (qx * qz - qw * qy) * z);
  seen[1] = scale * (2.0f * (qx * qy - qw * qz) * x + (1.0f - 2.0f * (qx * qx + qz * qz)) * y +
                     2.0f * (qy * qz + qw * qx) * z);
  seen[2] = scale * (2.0f * (qx * qz + qw * qy) * x + 2.0f * (qy * qz - qw * qx) * y +
                     (1.0f - 2.0f * (qx * qx + qy * qy)) * z);
}


static inline void drone_observe(const drone_params *p, const drone_state *s, float *all) {
  for (int32_t i = 0; i < p->num_drones; i++) {
    const float *b = s->body + i * DRONE_BODY, *target = s->target + i * 3, *normal = s->normal + i * 3;
    float *obs = all + i * DRONE_OBS;
    float offset[3], squared = drone_nearest(p, s, i, offset);
    float racing = s->task == DRONE_RACE ? 1.0f : 0.0f;
    (void)squared;
    drone_inward(b, target[0] - b[DRONE_X], target[1] - b[DRONE_Y], target[2] - b[DRONE_Z], DRONE_PER_LENGTH, obs);
    drone_inward(b, normal[0], normal[1], normal[2], racing, obs + 3);
    drone_inward(b, b[DRONE_VX], b[DRONE_VY], b[DRONE_VZ], DRONE_PER_SPEED, obs + 6);
    drone_inward(b, 0.0f, 0.0f, 1.0f, 1.0f, obs + 9);
    for (int32_t k = 0; k < 3; k++) obs[12 + k] = b[DRONE_WX + k] * DRONE_PER_RATE;
    for (int32_t k = 0; k < DRONE_ROTORS; k++) obs[15 + k] = s->rotor[i * DRONE_ROTORS + k];
    drone_inward(b, offset[0], offset[1], offset[2], DRONE_PER_LENGTH, obs + 19);
    for (int32_t k = 0; k < DRONE_TASKS; k++) obs[22 + k] = s->task == k ? 1.0f : 0.0f;
  }
}


static inline void drone_score(const drone_params *p, const drone_state *s, float *score) {
  for (int32_t i = 0; i < p->num_drones; i++)
    score[i] = s->task == DRONE_RACE ? (float)s->rings[i] * (1.0f / (float)p->num_rings)
                                     : s->closeness[i] * (1.0f / (float)p->max_steps);
}
