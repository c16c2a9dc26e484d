#!/usr/bin/env bash
# Run the tests of the C half under AddressSanitizer and UndefinedBehaviorSanitizer.
# Usage: tests/sanitize.sh [python of an environment with the test dependencies]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$python" -m pip install --quiet --target "$work/tools" cmake ninja pybind11
cmake() { PYTHONPATH=$work/tools "$work/tools/bin/cmake" "$@" > "$work/log" || { cat "$work/log"; exit 1; }; }
cmake -S . -B "$work/build" -G Ninja -DCMAKE_MAKE_PROGRAM="$work/tools/bin/ninja" \
  -Dpybind11_DIR="$work/tools/pybind11/share/cmake/pybind11" -DPython_EXECUTABLE="$(command -v "$python")" \
  -DJAXPUFFER_SANITIZE=ON
cmake --build "$work/build"
cmake --install "$work/build" --prefix "$work/package"
cp envs_c/*.py "$work/package/envs_c/"

# the base interpreter reads no .pth files from PYTHONPATH: an editable install cannot get in the way
base=$("$python" -c 'import sys; print(sys._base_executable)')
preload=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)
export PYTHONPATH=$work/package:$PWD:$packages LD_PRELOAD=$preload
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
loaded=$("$base" -P -c 'import envs_c._core as core; print(core.__file__)')
[[ $loaded == "$work"/* ]] || { echo "the tests would load $loaded"; exit 1; }
"$base" -P -m pytest -s -p no:cacheprovider -q tests/test_c_play.py tests/test_c_views.py
