// batch.h: a batch of one environment. Twin of jaxpuffer/batch.py.
//
// Included once per environment by a file that describe_env.py writes when the
// package is built; it turns NAME's functions into one `env_description`. binding.cpp
// knows nothing else about an environment.
//
// A row of the batch is NAME_state followed by one `episode` per agent.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// the tasks for each row, in this order
enum {
  BATCH_RESET = 1,        // seed the stream and begin an episode
  BATCH_TRANSITION = 2,   // one step of the rules, and the log of what ended
  BATCH_RESET_ENDED = 4,  // init if the world ended, otherwise respawn
  BATCH_OBSERVE = 8,
  BATCH_ACTION_MASK = 16,
  BATCH_SCORE = 32,
  BATCH_STEP = BATCH_TRANSITION | BATCH_RESET_ENDED | BATCH_OBSERVE
};

enum { DTYPE_UINT32, DTYPE_INT32, DTYPE_FLOAT32, DTYPE_UINT8, DTYPE_INT8, DTYPE_INT16 };

enum { LOG_RETURN, LOG_LENGTH, LOG_SCORE, LOG_PERF, LOG_N, LOG_FIELDS };

enum { MOST_OBS_PARTS = 8, MOST_FIGURES = 16 };

// the batch's record of each agent's episode
typedef struct {
  float episode_return;
  int32_t episode_length;
} episode;

// the arrays a call works on; those it does not need are NULL
typedef struct {
  const void *params;         // NAME_params (num_envs / envs_per_params)
  int64_t envs_per_params;    // how many consecutive rows share one
  int64_t num_envs;
  int32_t num_agents;
  int64_t row_bytes;          // of `rows`
  int64_t obs_bytes[MOST_OBS_PARTS];  // of one row's observations, each part
  int64_t action_bytes;       // of one row's actions
  int64_t mask_bytes;         // of one row's masks
  uint8_t *rows;              // (num_envs, row_bytes)
  const uint32_t *streams;    // (num_envs, 2)
  const void *actions;        // (num_envs, num_agents, ...)
  void *obs[MOST_OBS_PARTS];  // each part (num_envs, num_agents, ...); an observation that is an array is one part
  void *final_obs[MOST_OBS_PARTS];  // the same before the reset, written where a row ended
  float *reward;              // (num_envs, num_agents)
  uint8_t *terminated;        // (num_envs, num_agents), written by a transition, otherwise read
  uint8_t *truncated;         // the same
  float *log[LOG_FIELDS + MOST_FIGURES];  // each (num_envs, num_agents), entries `log_step` apart
  int64_t log_step;
  uint8_t *active;            // (num_envs, num_agents), who acted in a transition
  uint8_t *mask;              // (num_envs, num_agents, n)
  float *score;               // (num_envs, num_agents, 2 + figures): score, perf, and the environment's own figures
} batch;

typedef struct {
  const char *name;
  int32_t dtype;
  int64_t count;   // entries, all axes together
  int64_t offset;  // bytes
} env_field;

typedef struct {
  const char *name;
  int64_t id;  // of the name and the header's text: compiled programs, which may be kept for later, name it by this
  int32_t multi_agent;
  int32_t max_agents;
  int32_t has_perf;
  int32_t has_action_mask;
  int32_t has_active;
  int32_t obs_dtype;            // of an observation that is an array
  int32_t action_dtype;
  int64_t state_bytes;
  int64_t params_bytes;
  const env_field *state_fields;
  int64_t num_state_fields;
  const env_field *param_fields;
  int64_t num_param_fields;
  const env_field *obs_fields;  // of an observation of several parts
  int64_t num_obs_fields;       // 0 for an array
  const env_field *figures;
  int64_t num_figures;
  void (*run)(int what, const batch *b, int64_t begin, int64_t end);  // on rows begin to end - 1
} env_description;

extern const env_description *const env_descriptions[];
extern const int64_t num_env_descriptions;

#ifdef __cplusplus
}
#endif

// what defines NAME also defines ENV_MULTI_AGENT, ENV_HAS_PERF, ENV_HAS_ACTION_MASK, ENV_HAS_ACTIVE, and the numbers of
// fields ENV_OBS_PARTS and ENV_FIGURES
#ifdef ENV  // NAME

#define ENV_JOIN_(a, b) a##b
#define ENV_JOIN(a, b) ENV_JOIN_(a, b)
#define ENV_(function) ENV_JOIN(ENV, _##function)

typedef ENV_(params) env_params;
typedef ENV_(state) env_state;


#if ENV_OBS_PARTS
static const env_field obs_fields[ENV_OBS_PARTS];
#endif

// what the agents of a row see, into the parts `to`
static inline void batch_observe(const env_params *p, const env_state *s, const batch *b, void *const *to, int64_t row) {
#if ENV_OBS_PARTS
  int32_t agents = ENV_MULTI_AGENT ? b->num_agents : 1;
  ENV_(obs) seen[ENV_MAX_AGENTS];
  memset(seen, 0, sizeof *seen * (size_t)agents);
  ENV_(observe)(p, s, seen);
  for (int32_t k = 0; k < ENV_OBS_PARTS; k++) {
    // of an array with a capacity, the used part
    int64_t bytes = b->obs_bytes[k] / agents;
    char *entry = (char *)to[k] + row * b->obs_bytes[k];
    for (int32_t a = 0; a < agents; a++, entry += bytes)
      memcpy(entry, (const char *)(seen + a) + obs_fields[k].offset, (size_t)bytes);
  }
#else
  ENV_(observe)(p, s, (void *)((char *)to[0] + row * b->obs_bytes[0]));
#endif
}


enum { SCORES = 2 + ENV_FIGURES };

// score, perf and figures of one agent after the other; what a function does not set is 0
static inline void batch_score(const env_params *p, const env_state *s, int32_t num_agents, float *score) {
#if ENV_FIGURES
  ENV_(log) figures[ENV_MAX_AGENTS];
  memset(figures, 0, sizeof *figures * (size_t)num_agents);
  ENV_(figures)(p, s, figures);
  for (int32_t a = 0; a < num_agents; a++) memcpy(score + SCORES * a + 2, figures + a, sizeof *figures);
#endif
#if ENV_MULTI_AGENT
  float value[ENV_MAX_AGENTS];
  memset(value, 0, sizeof *value * (size_t)num_agents);
  ENV_(score)(p, s, value);
  for (int32_t a = 0; a < num_agents; a++) score[SCORES * a] = value[a];
#if ENV_HAS_PERF
  memset(value, 0, sizeof *value * (size_t)num_agents);
  ENV_(perf)(p, s, value);
#endif
  for (int32_t a = 0; a < num_agents; a++) score[SCORES * a + 1] = value[a];
#else
  (void)num_agents;
  score[0] = ENV_(score)(p, s);
#if ENV_HAS_PERF
  score[1] = ENV_(perf)(p, s);
#else
  score[1] = score[0];
#endif
#endif
}


#if ENV_HAS_ACTIVE
#define ENV_ACTIVE(a) (active[a] != 0)
#else
#define ENV_ACTIVE(a) 1
#endif

// one step of the rules; returns how many agents ended
static inline int32_t batch_transition(const env_params *p, env_state *s, episode *e, const batch *b, int64_t row) {
  enum { MAX_AGENTS = ENV_MAX_AGENTS };
  int32_t agents = ENV_MULTI_AGENT ? b->num_agents : 1;
  int64_t first = row * agents;
  outcome out[MAX_AGENTS];

  // transition; when the world ends, all agents that are not terminated are truncated
  const void *action = (const char *)b->actions + row * b->action_bytes;
  memset(out, 0, sizeof *out * (size_t)agents);
#if ENV_MULTI_AGENT
  int32_t reset = 0;
#if ENV_HAS_ACTIVE
  uint8_t active[MAX_AGENTS], still[MAX_AGENTS];
  memset(active, 0, (size_t)agents);
  memset(still, 0, (size_t)agents);
  ENV_(active)(p, s, active);
  ENV_(transition)(p, s, action, out, &reset);
  ENV_(active)(p, s, still);
  // who is out gets nothing, and who goes out ends; the world ends when nobody is left
  int32_t left = 0;
  for (int32_t a = 0; a < agents; a++) {
    b->active[first + a] = active[a];
    if (!active[a])
      out[a] = (outcome){0.0f, 0, 0};
    else if (!still[a] && !out[a].truncated)
      out[a].terminated = 1;
    left += active[a] && !out[a].terminated && !out[a].truncated;
  }
  if (!left) reset = 1;
#else
  ENV_(transition)(p, s, action, out, &reset);
#endif
  if (reset)
    for (int32_t a = 0; a < agents; a++) out[a].truncated = 1;
#else
  ENV_(transition)(p, s, action, out);
#endif

  int32_t ended = 0;
  for (int32_t a = 0; a < agents; a++) {
    if (out[a].terminated) out[a].truncated = 0;  // after an end by the rules nothing follows
    b->reward[first + a] = out[a].reward;
    b->terminated[first + a] = out[a].terminated != 0;
    b->truncated[first + a] = out[a].truncated != 0;
    ended += out[a].terminated || out[a].truncated;
    e[a].episode_return += out[a].reward;
    e[a].episode_length += ENV_ACTIVE(a);
  }

  // the log of the agents that ended
  for (int32_t f = 0; f < LOG_FIELDS + ENV_FIGURES; f++)
    for (int32_t a = 0; a < agents; a++) b->log[f][(first + a) * b->log_step] = 0.0f;
  if (ended) {
    float score[SCORES * MAX_AGENTS];
    batch_score(p, s, agents, score);
    for (int32_t a = 0; a < agents; a++) {
      if (!(out[a].terminated || out[a].truncated) || !ENV_ACTIVE(a)) continue;
      int64_t entry = (first + a) * b->log_step;
      b->log[LOG_RETURN][entry] = e[a].episode_return;
      b->log[LOG_LENGTH][entry] = (float)e[a].episode_length;
      b->log[LOG_SCORE][entry] = score[SCORES * a];
      b->log[LOG_PERF][entry] = score[SCORES * a + 1];
      b->log[LOG_N][entry] = 1.0f;
      for (int32_t f = 0; f < ENV_FIGURES; f++) b->log[LOG_FIELDS + f][entry] = score[SCORES * a + 2 + f];
      e[a].episode_return = 0.0f;
      e[a].episode_length = 0;
    }
  }
  return ended;
}


// init if all agents ended in this step, otherwise respawn the ones that did
static inline void batch_reset_ended(const env_params *p, env_state *s, const batch *b, int64_t row) {
  int32_t agents = ENV_MULTI_AGENT ? b->num_agents : 1;
  int32_t count = 0;
  uint8_t ended[ENV_MAX_AGENTS];
  for (int32_t a = 0; a < agents; a++) {
    ended[a] = b->terminated[row * agents + a] || b->truncated[row * agents + a];
    count += ended[a];
  }
  if (count == agents) ENV_(init)(p, s);
#if ENV_MULTI_AGENT
  else if (count) ENV_(respawn)(p, s, ended);
#endif
}


static inline void batch_rows(const int what, const batch *b, int64_t begin, int64_t end) {
  const env_params *p = (const env_params *)b->params + begin / b->envs_per_params;
  int64_t left = b->envs_per_params - begin % b->envs_per_params;  // rows that share them
  for (int64_t row = begin; row < end; row++, left--) {
    if (left == 0) p++, left = b->envs_per_params;
    uint8_t *bytes = b->rows + row * b->row_bytes;
    env_state *s = (env_state *)bytes;
    episode *e = (episode *)(bytes + sizeof(env_state));
    int32_t ended = 1;

    if (what & BATCH_RESET) {
      memset(bytes, 0, (size_t)b->row_bytes);
      memcpy(s->rng, b->streams + 2 * row, sizeof s->rng);
      ENV_(init)(p, s);
    }
    if (what & BATCH_TRANSITION) {
      ended = batch_transition(p, s, e, b, row);
      if (ended && b->final_obs[0]) batch_observe(p, s, b, b->final_obs, row);
    }
    if ((what & BATCH_RESET_ENDED) && ended) batch_reset_ended(p, s, b, row);
    if (what & BATCH_OBSERVE) batch_observe(p, s, b, b->obs, row);
#if ENV_HAS_ACTION_MASK
    if (what & BATCH_ACTION_MASK) ENV_(action_mask)(p, s, b->mask + row * b->mask_bytes);
#endif
    if (what & BATCH_SCORE) batch_score(p, s, b->num_agents, b->score + SCORES * row * b->num_agents);
  }
}


// a copy of the loop for each frequent task, so that the compiler removes the rest of it
static void batch_run(int what, const batch *b, int64_t begin, int64_t end) {
  switch (what) {
    case BATCH_STEP: batch_rows(BATCH_STEP, b, begin, end); break;
    case BATCH_TRANSITION: batch_rows(BATCH_TRANSITION, b, begin, end); break;
    case BATCH_RESET_ENDED | BATCH_OBSERVE: batch_rows(BATCH_RESET_ENDED | BATCH_OBSERVE, b, begin, end); break;
    default: batch_rows(what, b, begin, end);
  }
}


#define ENV_DTYPE(value)                                                                                       \
  _Generic((value), uint32_t: DTYPE_UINT32, int32_t: DTYPE_INT32, float: DTYPE_FLOAT32, uint8_t: DTYPE_UINT8, \
           int8_t: DTYPE_INT8, int16_t: DTYPE_INT16)

// a field ends where the next begins
#define ENV_NO_PADDING(type, field, next)                                       \
  _Static_assert(offsetof(type, field) + sizeof(((type *)0)->field) == (next), \
                 #type " has padding after " #field ", or a field that was not read; narrow arrays fill 32-bit words")

#define ENV_FIELD(type, field, entry)                                                                    \
  {#field, ENV_DTYPE(((type *)0)->entry), sizeof(((type *)0)->field) / sizeof(((type *)0)->entry),      \
   offsetof(type, field)}

#if ENV_OBS_PARTS
#define ENV_OBS_DTYPE 0
#else
#define ENV_OBS_OF(type) void (*)(const env_params *, const env_state *, type *)
#define ENV_OBS_DTYPE                                                                              \
  _Generic(&ENV_(observe), ENV_OBS_OF(float): DTYPE_FLOAT32, ENV_OBS_OF(int32_t): DTYPE_INT32,    \
           ENV_OBS_OF(int8_t): DTYPE_INT8, ENV_OBS_OF(uint8_t): DTYPE_UINT8)
#endif

#if ENV_MULTI_AGENT
#define ENV_ACTION_OF(type) void (*)(const env_params *, env_state *, const type *, outcome *, int32_t *)
#else
#define ENV_ACTION_OF(type) void (*)(const env_params *, env_state *, const type *, outcome *)
#endif
#define ENV_ACTION_DTYPE \
  _Generic(&ENV_(transition), ENV_ACTION_OF(float): DTYPE_FLOAT32, ENV_ACTION_OF(int32_t): DTYPE_INT32)

_Static_assert(offsetof(env_state, rng) == 0 && sizeof(((env_state *)0)->rng) == 8,
               "a state starts with uint32_t rng[2]");
_Static_assert(ENV_OBS_PARTS <= MOST_OBS_PARTS && ENV_FIGURES <= MOST_FIGURES, "more fields than batch.h has room for");
#if ENV_FIGURES
_Static_assert(sizeof(ENV_(log)) == ENV_FIGURES * sizeof(float), "the figures are single floats");
#endif

#endif
