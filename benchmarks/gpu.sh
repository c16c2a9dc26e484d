#!/usr/bin/env bash
# All that is measured on a GPU, in under ten minutes: benchmarks/gpu.sh FOLDER
# Needs Python with jax (CUDA), flax, optax, orbax, pybind11, CMake and a C compiler; installs nothing.
set -euo pipefail
out=$(mkdir -p "${1:?usage: benchmarks/gpu.sh FOLDER}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD
failed=0
step() { printf '\n== %s (%ds)\n' "$1" "$SECONDS"; shift; "$@" || { echo "FAILED: $*"; failed=1; }; }

build() {
  cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" > "$out/build.log" 2>&1 &&
    cmake --build build/gpu --parallel >> "$out/build.log" 2>&1 && cmake --install build/gpu --prefix . >> "$out/build.log"
}
step "the C half" build
step "environments alone" "$python" -m benchmarks.sps breakout cartpole --backends jax \
  --num-envs ${GPU_SPS_ENVS:-1024,16384,262144,1048576} --json "$out/gpu-sps.json"
step "training: batch size, and the roofline" "$python" -m benchmarks.gpu ${GPU_TRAIN:-} --json "$out/gpu-training.json"
step "breakout to 800 of 864" "$python" -m benchmarks.train breakout --backend jax --until 800 --seeds 0,1,2 \
  --config policy=mingru hidden=64 layers=2 ${GPU_BREAKOUT:-num_envs=4096 horizon=64 minibatch_size=16384 total_steps=100000000} \
  --json "$out/gpu-train-breakout.json"
step "parity, native, JAX on the device" "$python" -m parity --mode native --device "${GPU_PLATFORM:-gpu}" \
  ${GPU_PARITY:-} --json "$out/gpu-parity.json"
printf '\n== done in %ds, records in %s\n' "$SECONDS" "$out"
exit $failed
