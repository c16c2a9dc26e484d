#!/usr/bin/env bash
# All that is measured on a GPU, in under ten minutes: benchmarks/gpu.sh FOLDER
# Needs Python with jax (CUDA), flax, optax, orbax, pybind11, CMake and a C compiler; installs nothing.
set -euo pipefail
out=$(mkdir -p "${1:?usage: benchmarks/gpu.sh FOLDER}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
limit="timeout ${GPU_LIMIT:-200}"  # seconds of a step: one that hangs does not take the others along
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
failed=0
step() { printf '\n== %s (%ds)\n' "$1" "$SECONDS"; shift; "$@" || { echo "FAILED: $*"; failed=1; }; }

build() {
  cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" > "$out/build.log" 2>&1 &&
    cmake --build build/gpu --parallel >> "$out/build.log" 2>&1 && cmake --install build/gpu --prefix . >> "$out/build.log"
}

# the environments in four processes: what takes long is compiling, of which each uses a core or two
parity() {
  local names=(${GPU_PARITY_ENVS:-$("$python" -c 'from jaxpuffer import list_envs; print(*list_envs())')})
  local jobs=() part status=0
  for part in 0 1 2 3; do
    local mine=()
    for ((i = part; i < ${#names[@]}; i += 4)); do mine+=("${names[i]}"); done
    ((${#mine[@]})) || continue
    XLA_PYTHON_CLIENT_PREALLOCATE=false $limit "$python" -m parity "${mine[@]}" --mode native --device "${GPU_PLATFORM:-gpu}" \
      ${GPU_PARITY:---num-envs 256 --steps 5000} --json "$out/gpu-parity-$part.json" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || status=1; done
  return $status
}

step "the C half" build
step "environments alone" $limit "$python" -m benchmarks.sps breakout cartpole --backends jax \
  --num-envs ${GPU_SPS_ENVS:-1024,16384,131072,1048576} --json "$out/gpu-sps.json"
step "training: batch size, and the roofline" $limit "$python" -m benchmarks.gpu ${GPU_TRAIN:-} --json "$out/gpu-training.json"
step "breakout to 800 of 864" $limit "$python" -m benchmarks.train breakout --backend jax --until 800 --seeds 0,1,2 --no-shares \
  --config policy=mingru hidden=64 layers=2 ${GPU_BREAKOUT:-num_envs=4096 minibatch_size=16384 learning_rate=0.03 total_steps=60000000} \
  --json "$out/gpu-train-breakout.json"
step "parity, native, JAX on the device" parity
printf '\n== done in %ds, records in %s\n' "$SECONDS" "$out"
exit $failed
