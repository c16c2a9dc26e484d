"""Before JAX starts: strict mode, so that C and XLA agree to the last bit, and strict promotion."""

import contextlib
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # parity and benchmarks run from the checkout
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from parity import use_mode

use_mode("strict")

# compiling is most of what the tests wait for; `python -m parity` and the benchmarks compile as users do
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
if tuple(map(int, version("jaxlib").split(".")[:3])) < (0, 11, 1):  # later ones know no other way, and die of the flag
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# what the command line keeps of compiled programs
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache")

import jax  # noqa: E402
import pytest  # noqa: E402

import envs_c  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


with contextlib.suppress(ValueError):  # which is ignored where the tests run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_c: needs the C environments")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not envs_c.is_built():
        for item in items:
            if item.get_closest_marker("needs_c"):
                item.add_marker(pytest.mark.skip(reason="the C environments are not built"))
