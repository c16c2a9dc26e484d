// binding.cpp: the batches of batch.h for Python, as NumPy buffers updated in place
// and as one XLA FFI target. Both fill in the same `batch` and run it in the
// same way; neither depends on the name of an environment.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "batch.h"
#include "xla/ffi/api/ffi.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace py = pybind11;
namespace ffi = xla::ffi;

namespace {

// ------------------------------------------------------------------------------------------
// the environments
// ------------------------------------------------------------------------------------------

// The environments of this package, and those whose headers were compiled later, by their ids.
class Environments {
 public:
  Environments() {
    for (int64_t i = 0; i < num_env_descriptions; i++) Add(env_descriptions[i]);
  }
  void Add(const env_description *env) {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    by_id_[env->id] = env;
  }
  const env_description *Find(int64_t id) const {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
  }
  std::vector<const env_description *> All() const {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    std::vector<const env_description *> all;
    for (auto &[id, env] : by_id_) all.push_back(env);
    return all;
  }

 private:
  mutable std::shared_mutex mutex_;
  std::map<int64_t, const env_description *> by_id_;
};

Environments &Known() {
  static Environments known;
  return known;
}

bool IsShipped(const env_description *env) {
  return std::find(env_descriptions, env_descriptions + num_env_descriptions, env) !=
         env_descriptions + num_env_descriptions;
}

// ------------------------------------------------------------------------------------------
// running a batch
// ------------------------------------------------------------------------------------------

// XLA flushes denormals to zero on its threads; so does every thread that steps environments
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }  // FTZ, DAZ
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

void Pause() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A batch cut into chunks that any number of threads take one after the other. The caller takes
// chunks too and waits only for those already taken: it can run inside a pool whose
// other threads never start.
class Job {
 public:
  Job(const env_description *env, int what, const batch &b, int64_t chunk)
      : env_(env), what_(what), batch_(b), chunk_(chunk), count_((b.num_envs + chunk - 1) / chunk) {}

  int64_t count() const { return count_; }

  void Work() {
    FlushDenormals flush;
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) {
      env_->run(what_, &batch_, i * chunk_, std::min((i + 1) * chunk_, batch_.num_envs));
      if (done_.fetch_add(1) + 1 == count_) {
        std::lock_guard<std::mutex> lock(mutex_);
        all_done_.notify_all();
      }
    }
  }

  void Wait() {
    for (int spin = 0; spin < 20000; spin++)
      if (done_.load(std::memory_order_acquire) == count_) return;
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(lock, [&] { return done_.load() == count_; });
  }

 private:
  const env_description *env_;
  int what_;
  batch batch_;
  int64_t chunk_, count_;
  std::atomic<int64_t> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable all_done_;
};

// `schedule` gives a task to another thread, which may start too late
void RunBatch(const env_description *env, int what, const batch &b, int64_t threads,
              const std::function<void(std::function<void()>)> &schedule) {
  // below this a second thread costs more time than it saves
  constexpr int64_t kMinAgentsPerThread = 256;
  threads = std::max<int64_t>(1, std::min(threads, b.num_envs * b.num_agents / kMinAgentsPerThread));
  if (threads == 1) {
    FlushDenormals flush;
    env->run(what, &b, 0, b.num_envs);
    return;
  }
  int64_t chunks = threads * 4;
  auto job = std::make_shared<Job>(env, what, b, (b.num_envs + chunks - 1) / chunks);
  for (int64_t i = 1; i < threads; i++) schedule([job] { job->Work(); });
  job->Work();
  job->Wait();
}

// How many choices each entry of an action has; empty if actions are numbers.
using Choices = ffi::Span<const int64_t>;

// a message about the first action that is out of range, if any
std::optional<std::string> BadAction(const env_description *env, const batch &b, int64_t entries, Choices choices) {
  if (env->action_dtype == DTYPE_INT32) {
    const int32_t *action = static_cast<const int32_t *>(b.actions);
    const int64_t kinds = static_cast<int64_t>(choices.size());
    if (kinds == 0 || entries % kinds) return std::string(env->name) + ": it is not known how many choices actions have";
    for (int64_t k = 0; k < kinds; k++) {
      uint32_t largest = 0;
      for (int64_t i = k; i < entries; i += kinds) largest = std::max(largest, static_cast<uint32_t>(action[i]));
      if (largest < static_cast<uint32_t>(choices[k])) continue;
      for (int64_t i = k; i < entries; i += kinds)
        if (action[i] < 0 || action[i] >= choices[k])
          return std::string(env->name) + ": action " + std::to_string(action[i]) + " of agent " +
                 std::to_string(i / kinds) + " of the batch, entry " + std::to_string(k) + "; it must be from 0 to " +
                 std::to_string(choices[k] - 1);
    }
  } else {
    const float *action = static_cast<const float *>(b.actions);
    for (int64_t i = 0; i < entries; i++)
      if (!std::isfinite(action[i]))
        return std::string(env->name) + ": action " + std::to_string(action[i]) + " at entry " + std::to_string(i) +
               " of the batch; it must be finite";
  }
  return std::nullopt;
}

// Inside XLA nothing is raised: choices out of range become the nearest, in a copy, and the agents' rewards NaN.
// Returns which agents these are.
std::vector<int64_t> Mend(batch &b, int64_t entries, Choices choices, std::vector<int32_t> &copy) {
  const int32_t *action = static_cast<const int32_t *>(b.actions);
  copy.assign(action, action + entries);
  const int64_t kinds = static_cast<int64_t>(choices.size());
  std::vector<int64_t> agents;
  for (int64_t i = 0; i < entries; i++) {
    copy[i] = std::clamp(action[i], 0, static_cast<int32_t>(choices[i % kinds] - 1));
    if (copy[i] != action[i]) agents.push_back(i / kinds);
  }
  b.actions = copy.data();
  return agents;
}

int64_t DtypeBytes(int32_t dtype) {
  return dtype == DTYPE_UINT8 || dtype == DTYPE_INT8 ? 1 : dtype == DTYPE_INT16 ? 2 : 4;
}

const char *DtypeName(int32_t dtype) {
  static const char *const names[] = {"uint32", "int32", "float32", "uint8", "int8", "int16"};
  return names[dtype];
}

// An observation that is an array is one part, without a name.
int64_t ObsParts(const env_description *env) { return std::max<int64_t>(1, env->num_obs_fields); }

int32_t ObsDtype(const env_description *env, int64_t part) {
  return env->num_obs_fields ? env->obs_fields[part].dtype : env->obs_dtype;
}

// ------------------------------------------------------------------------------------------
// inside XLA
// ------------------------------------------------------------------------------------------

ffi::DataType FfiDtype(int32_t dtype) {
  static const ffi::DataType types[] = {ffi::U32, ffi::S32, ffi::F32, ffi::U8, ffi::S8, ffi::S16};
  return types[dtype];
}

// Operands in this order, those that `what` needs: params, streams or rows, actions,
// terminated, truncated. Results in the same way: rows, the parts of obs, reward, terminated, truncated,
// the fields and figures of the log, active, mask, score. vmap puts the same axes in front of all of them.
ffi::Error RunInXla(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t env_id,
                    int64_t what_wide, int64_t agents, Choices choices, int64_t threads) {
  const env_description *env = Known().Find(env_id);
  if (env == nullptr)
    return ffi::Error::InvalidArgument("the program is of a C environment that this process has not loaded; make it");
  const int what = static_cast<int>(what_wide);
  std::string wrong;
  size_t arg = 0, ret = 0;

  auto operand = [&](ffi::DataType dtype, const char *name) -> ffi::AnyBuffer {
    auto buffer = args.get<ffi::AnyBuffer>(arg++);
    if (!buffer.has_value()) wrong = std::string(name) + " is missing";
    else if (buffer->element_type() != dtype) wrong = std::string(name) + " has a wrong dtype";
    return buffer.has_value() ? *buffer : *args.get<ffi::AnyBuffer>(0);
  };
  auto result = [&](ffi::DataType dtype, const char *name) -> ffi::AnyBuffer {
    auto buffer = rets.get<ffi::AnyBuffer>(ret++);
    if (!buffer.has_value()) wrong = std::string(name) + " is missing";
    else if ((*buffer)->element_type() != dtype) wrong = std::string(name) + " has a wrong dtype";
    return buffer.has_value() ? **buffer : *args.get<ffi::AnyBuffer>(0);
  };
  auto leading = [](const ffi::AnyBuffer &buffer, size_t trailing) {
    auto dims = buffer.dimensions();
    int64_t product = 1;
    for (size_t i = 0; i + trailing < dims.size(); i++) product *= dims[i];
    return product;
  };

  batch b = {};
  b.num_agents = static_cast<int32_t>(agents);
  ffi::AnyBuffer params = operand(ffi::U32, "params");
  if (!wrong.empty()) return ffi::Error::InvalidArgument(env->name + (": " + wrong));
  if (params.dimensions().back() * 4 != env->params_bytes) wrong = "params has a wrong length";
  b.params = params.untyped_data();
  const int64_t groups = leading(params, 1);

  const bool mutates = what & (BATCH_RESET | BATCH_TRANSITION | BATCH_RESET_ENDED);
  b.row_bytes = env->state_bytes + agents * static_cast<int64_t>(sizeof(episode));
  const uint8_t *rows_in = nullptr;
  if (what & BATCH_RESET) {
    ffi::AnyBuffer streams = operand(ffi::U32, "streams");
    b.streams = static_cast<const uint32_t *>(streams.untyped_data());
    b.num_envs = leading(streams, 1);
  } else {
    ffi::AnyBuffer rows = operand(ffi::U8, "rows");
    if (rows.dimensions().back() != b.row_bytes) wrong = "rows have a wrong length";
    rows_in = static_cast<const uint8_t *>(rows.untyped_data());
    b.num_envs = leading(rows, 1);
  }
  if (groups == 0 || b.num_envs % groups) wrong = "the leading axes of the operands differ";
  b.envs_per_params = wrong.empty() && b.num_envs > 0 ? b.num_envs / groups : 1;

  const int64_t per_agent = b.num_envs * agents;
  auto bytes_per_env = [&](const ffi::AnyBuffer &buffer, int32_t dtype, const char *name) {
    int64_t count = static_cast<int64_t>(buffer.element_count());
    if (per_agent == 0 || count % per_agent) wrong = std::string(name) + " has a wrong shape";
    return b.num_envs ? count / b.num_envs * DtypeBytes(dtype) : 0;
  };
  auto flags = [&](const ffi::AnyBuffer &buffer, const char *name) {
    if (static_cast<int64_t>(buffer.element_count()) != per_agent) wrong = std::string(name) + " has a wrong shape";
    return static_cast<uint8_t *>(buffer.untyped_data());
  };

  int64_t action_entries = 0;
  if (what & BATCH_TRANSITION) {
    ffi::AnyBuffer actions = operand(FfiDtype(env->action_dtype), "actions");
    b.actions = actions.untyped_data();
    b.action_bytes = bytes_per_env(actions, env->action_dtype, "actions");
    action_entries = static_cast<int64_t>(actions.element_count());
  } else if (what & BATCH_RESET_ENDED) {
    b.terminated = flags(operand(ffi::PRED, "terminated"), "terminated");
    b.truncated = flags(operand(ffi::PRED, "truncated"), "truncated");
  }

  if (mutates) {
    ffi::AnyBuffer rows = result(ffi::U8, "rows");
    if (static_cast<int64_t>(rows.element_count()) != b.num_envs * b.row_bytes) wrong = "rows have a wrong shape";
    b.rows = static_cast<uint8_t *>(rows.untyped_data());
  } else {
    b.rows = const_cast<uint8_t *>(rows_in);  // only read
  }
  if (what & BATCH_OBSERVE) {
    for (int64_t k = 0; k < ObsParts(env); k++) {
      ffi::AnyBuffer obs = result(FfiDtype(ObsDtype(env, k)), "obs");
      b.obs[k] = obs.untyped_data();
      b.obs_bytes[k] = bytes_per_env(obs, ObsDtype(env, k), "obs");
    }
  }
  if (what & BATCH_TRANSITION) {
    b.reward = reinterpret_cast<float *>(flags(result(ffi::F32, "reward"), "reward"));
    b.terminated = flags(result(ffi::PRED, "terminated"), "terminated");
    b.truncated = flags(result(ffi::PRED, "truncated"), "truncated");
    // a result for each field: a slice of a single result for all would be a copy
    for (int64_t f = 0; f < LOG_FIELDS + env->num_figures; f++)
      b.log[f] = reinterpret_cast<float *>(flags(result(ffi::F32, "log"), "log"));
    b.log_step = 1;
    if (env->has_active) b.active = flags(result(ffi::PRED, "active"), "active");
  }
  if (what & BATCH_ACTION_MASK) {
    ffi::AnyBuffer mask = result(ffi::PRED, "mask");
    b.mask = static_cast<uint8_t *>(mask.untyped_data());
    b.mask_bytes = bytes_per_env(mask, DTYPE_UINT8, "mask");
  }
  if (what & BATCH_SCORE) {
    ffi::AnyBuffer score = result(ffi::F32, "score");
    if (static_cast<int64_t>(score.element_count()) != per_agent * (2 + env->num_figures))
      wrong = "score has a wrong shape";
    b.score = static_cast<float *>(score.untyped_data());
  }
  if (!wrong.empty()) return ffi::Error::InvalidArgument(env->name + (": " + wrong));
  std::vector<int32_t> mended;
  std::vector<int64_t> no_action;
  if (what & BATCH_TRANSITION && env->action_dtype == DTYPE_INT32) {
    if (choices.size() == 0 || action_entries % static_cast<int64_t>(choices.size()))
      return ffi::Error::InvalidArgument(env->name + std::string(": it is not known how many choices actions have"));
    if (BadAction(env, b, action_entries, choices)) no_action = Mend(b, action_entries, choices, mended);
  }
  if (rows_in && mutates && rows_in != b.rows) memcpy(b.rows, rows_in, static_cast<size_t>(b.num_envs * b.row_bytes));

  if (threads == 0) threads = static_cast<int64_t>(pool.num_threads());
  RunBatch(env, what, b, threads, [&](std::function<void()> task) { pool.Schedule(std::move(task)); });
  for (int64_t agent : no_action) b.reward[agent] = std::numeric_limits<float>::quiet_NaN();
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER(RunInXlaHandler, RunInXla,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .RemainingArgs()
                           .RemainingRets()
                           .Attr<int64_t>("env")
                           .Attr<int64_t>("what")
                           .Attr<int64_t>("agents")
                           .Attr<Choices>("choices")
                           .Attr<int64_t>("threads"));

// ------------------------------------------------------------------------------------------
// on NumPy buffers
// ------------------------------------------------------------------------------------------

// threads that wait for jobs, for callers outside XLA
class Workers {
 public:
  explicit Workers(int64_t count) {
    for (int64_t i = 0; i < count; i++) threads_.emplace_back([this] { Loop(); });
  }
  ~Workers() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto &thread : threads_) thread.join();
  }
  void Schedule(std::function<void()> task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
      waiting_.store(static_cast<int>(tasks_.size()), std::memory_order_release);
    }
    wake_.notify_one();
  }

 private:
  void Loop() {
    for (;;) {
      std::function<void()> task;
      // the next step follows soon, and waking up takes longer than many steps do
      for (int spin = 0; spin < kSpins && !waiting_.load(std::memory_order_acquire); spin++) Pause();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.back());
        tasks_.pop_back();
        waiting_.store(static_cast<int>(tasks_.size()), std::memory_order_release);
      }
      task();
    }
  }
  static constexpr int kSpins = 2000;  // about 50 microseconds
  std::vector<std::function<void()>> tasks_;
  std::atomic<int> waiting_{0};  // tasks
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

// One batch over NumPy arrays that Python owns: VecEnv keeps them, and states are read and set through `rows`.
class NumpyBatch {
 public:
  NumpyBatch(int64_t env_id, std::vector<int64_t> choices, int64_t threads, const py::dict &arrays)
      : choices_(std::move(choices)), threads_(threads), workers_(threads - 1) {
    env_ = Known().Find(env_id);
    if (env_ == nullptr) throw py::index_error("no such environment");
    b_.params = Take(arrays, "params", "uint32", {env_->params_bytes / 4});
    py::array reward = arrays["reward"].cast<py::array>();
    if (reward.ndim() < 1) throw py::value_error("reward needs an axis of environments");
    b_.num_envs = b_.envs_per_params = reward.shape(0);
    b_.num_agents = env_->multi_agent ? static_cast<int32_t>(reward.ndim() == 2 ? reward.shape(1) : 0) : 1;
    if (b_.num_envs < 1 || b_.num_agents < 1) throw py::value_error("a batch needs environments and agents");
    b_.row_bytes = env_->state_bytes + b_.num_agents * static_cast<int64_t>(sizeof(episode));
    std::vector<int64_t> per_agent = {b_.num_envs};
    if (env_->multi_agent) per_agent.push_back(b_.num_agents);
    std::vector<int64_t> log = per_agent;
    const int64_t log_fields = LOG_FIELDS + env_->num_figures;
    log.push_back(log_fields);
    b_.rows = static_cast<uint8_t *>(Take(arrays, "rows", "uint8", {b_.num_envs, b_.row_bytes}));
    b_.streams = static_cast<uint32_t *>(Take(arrays, "streams", "uint32", {b_.num_envs, 2}));
    for (int64_t k = 0; k < ObsParts(env_); k++) {
      const std::string part = env_->num_obs_fields ? std::string(".") + env_->obs_fields[k].name : "";
      const std::string obs = "obs" + part, final_obs = "final_obs" + part;
      b_.obs[k] = Take(arrays, obs.c_str(), DtypeName(ObsDtype(env_, k)), {});
      b_.final_obs[k] = Take(arrays, final_obs.c_str(), DtypeName(ObsDtype(env_, k)), {});
      const int64_t bytes = arrays[obs.c_str()].cast<py::array>().nbytes();
      if (arrays[final_obs.c_str()].cast<py::array>().nbytes() != bytes)
        throw py::value_error(final_obs + " must have the shape of " + obs);
      b_.obs_bytes[k] = bytes / b_.num_envs;
    }
    b_.reward = static_cast<float *>(Take(arrays, "reward", "float32", per_agent));
    b_.terminated = static_cast<uint8_t *>(Take(arrays, "terminated", "bool", per_agent));
    b_.truncated = static_cast<uint8_t *>(Take(arrays, "truncated", "bool", per_agent));
    float *entries = static_cast<float *>(Take(arrays, "log", "float32", log));
    for (int64_t f = 0; f < log_fields; f++) b_.log[f] = entries + f;
    b_.log_step = log_fields;
    if (env_->has_active) b_.active = static_cast<uint8_t *>(Take(arrays, "active", "bool", per_agent));
    if (arrays.contains("mask")) {
      b_.mask = static_cast<uint8_t *>(Take(arrays, "mask", "bool", {}));
      b_.mask_bytes = arrays["mask"].cast<py::array>().nbytes() / b_.num_envs;
    }
    action_shape_ = arrays["action_shape"].cast<std::vector<int64_t>>();
  }

  void Reset() { Run(BATCH_RESET | BATCH_OBSERVE | MaskBit()); }

  void Step(const py::array &actions) {
    CheckArray(actions, "actions", DtypeName(env_->action_dtype), action_shape_);
    b_.actions = actions.data();
    b_.action_bytes = actions.nbytes() / b_.num_envs;
    if (auto bad = BadAction(env_, b_, actions.size(), {choices_.data(), choices_.size()})) throw py::value_error(*bad);
    Run(BATCH_STEP | MaskBit());
  }

  // for benchmarks: steps without Python in between, each with the same work as in the FFI target;
  // the actions are used in a cycle, and the bits of each agent's rewards are added up
  void Play(int64_t num_steps, const py::array &actions, py::array reward_bits) {
    std::vector<int64_t> shape = action_shape_, per_agent = {b_.num_envs};
    shape.insert(shape.begin(), actions.ndim() ? actions.shape(0) : 0);
    if (env_->multi_agent) per_agent.push_back(b_.num_agents);
    CheckArray(actions, "actions", DtypeName(env_->action_dtype), shape);
    CheckArray(reward_bits, "reward_bits", "uint32", per_agent);
    if (shape[0] < 1) throw py::value_error("actions is empty");
    batch b = b_;
    b.final_obs[0] = nullptr;
    b.action_bytes = actions.nbytes() / shape[0] / b.num_envs;
    const int64_t entries = actions.size() / shape[0], agents = b.num_envs * b.num_agents;
    uint32_t *sum = static_cast<uint32_t *>(reward_bits.mutable_data());
    const uint8_t *first = static_cast<const uint8_t *>(actions.data());
    std::optional<std::string> bad;
    {
      py::gil_scoped_release release;
      for (int64_t i = 0; i < num_steps && !bad; i++) {
        b.actions = first + i % shape[0] * b.num_envs * b.action_bytes;
        bad = BadAction(env_, b, entries, {choices_.data(), choices_.size()});
        if (!bad) Run(BATCH_STEP, b);
        for (int64_t a = 0; a < agents; a++) {
          uint32_t bits;
          memcpy(&bits, b.reward + a, sizeof bits);
          sum[a] += b.reward[a] == 0.0f ? 0 : bits;  // -0 is 0
        }
      }
    }
    if (bad) throw py::value_error(*bad);
  }

 private:
  int MaskBit() const { return b_.mask ? BATCH_ACTION_MASK : 0; }

  void Run(int what) {
    py::gil_scoped_release release;
    Run(what, b_);
  }

  void Run(int what, const batch &b) {
    RunBatch(env_, what, b, threads_, [&](std::function<void()> task) { workers_.Schedule(std::move(task)); });
  }

  static std::string ShapeText(const std::vector<int64_t> &shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
  }

  static void CheckArray(const py::array &array, const char *name, const char *dtype,
                         const std::vector<int64_t> &shape) {
    std::string got = py::str(array.dtype()).cast<std::string>();
    if (got != dtype) throw py::type_error(std::string(name) + " is " + got + "; it must be " + dtype);
    std::vector<int64_t> has(array.shape(), array.shape() + array.ndim());
    if (!shape.empty() && has != shape)
      throw py::value_error(std::string(name) + " has shape " + ShapeText(has) + "; it must be " + ShapeText(shape));
    if (!(array.flags() & py::array::c_style))
      throw py::value_error(std::string(name) + " is not contiguous; pass numpy.ascontiguousarray of it");
  }

  // the buffer of a writable array that is kept alive with this object
  void *Take(const py::dict &arrays, const char *name, const char *dtype, const std::vector<int64_t> &shape) {
    py::array array = arrays[name].cast<py::array>();
    CheckArray(array, name, dtype, shape);
    kept_.push_back(array);
    return array.mutable_data();
  }

  const env_description *env_;
  std::vector<int64_t> choices_;
  int64_t threads_;
  batch b_ = {};
  std::vector<int64_t> action_shape_;
  std::vector<py::array> kept_;
  Workers workers_;
};

py::list Fields(const env_field *fields, int64_t count) {
  py::list list;
  for (int64_t i = 0; i < count; i++)
    list.append(py::make_tuple(fields[i].name, DtypeName(fields[i].dtype), fields[i].count, fields[i].offset));
  return list;
}

py::dict Descriptions() {
  py::dict all;
  for (const env_description *env : Known().All()) {
    py::dict d;
    d["id"] = env->id;
    d["multi_agent"] = env->multi_agent != 0;
    d["max_agents"] = env->max_agents;
    d["has_perf"] = env->has_perf != 0;
    d["has_action_mask"] = env->has_action_mask != 0;
    d["has_active"] = env->has_active != 0;
    d["obs_dtype"] = DtypeName(env->obs_dtype);
    d["obs"] = Fields(env->obs_fields, env->num_obs_fields);
    d["figures"] = Fields(env->figures, env->num_figures);
    d["action_dtype"] = DtypeName(env->action_dtype);
    d["state_bytes"] = env->state_bytes;
    d["params"] = Fields(env->param_fields, env->num_param_fields);
    d["state"] = Fields(env->state_fields, env->num_state_fields);
    // one that was added may have the name of another
    all[(IsShipped(env) ? env->name : env->name + ("#" + std::to_string(env->id))).c_str()] = d;
  }
  return all;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C environments: descriptions, the XLA FFI target and batches over NumPy arrays.";
  m.def("descriptions", &Descriptions);
  m.def("add", [](size_t address) { Known().Add(reinterpret_cast<const env_description *>(address)); },
        "Add the environment whose `env_description` is at an address; it must have been compiled with this batch.h.");
  m.def("ffi_target", [] { return py::capsule(reinterpret_cast<void *>(RunInXlaHandler)); });
  m.attr("COMPILER") = JAXPUFFER_COMPILER;
  m.attr("FLAGS") = JAXPUFFER_FLAGS;
  m.attr("EPISODE_BYTES") = sizeof(episode);
  for (auto [name, value] : {std::pair<const char *, int>{"RESET", BATCH_RESET}, {"TRANSITION", BATCH_TRANSITION},
                             {"RESET_ENDED", BATCH_RESET_ENDED}, {"OBSERVE", BATCH_OBSERVE},
                             {"ACTION_MASK", BATCH_ACTION_MASK}, {"SCORE", BATCH_SCORE}, {"STEP", BATCH_STEP}})
    m.attr(name) = value;
  py::class_<NumpyBatch>(m, "NumpyBatch")
      .def(py::init<int64_t, std::vector<int64_t>, int64_t, const py::dict &>(), py::arg("env_id"), py::arg("choices"),
           py::arg("threads"), py::arg("arrays"))
      .def("reset", &NumpyBatch::Reset)
      .def("step", &NumpyBatch::Step)
      .def("play", &NumpyBatch::Play, py::arg("num_steps"), py::arg("actions"), py::arg("reward_bits"));
}
