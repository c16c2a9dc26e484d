"""Before JAX starts: strict mode, so that C and XLA agree to the last bit, and strict promotion."""

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # parity and benchmarks run from the checkout
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from parity import use_mode

use_mode("strict")

# compiling is most of what the tests wait for; `python -m parity` and the benchmarks compile as users do
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
# later versions have only one way, and fail with the flag
if tuple(map(int, version("jaxlib").split(".")[:3])) < (0, 11, 1):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# where the command line keeps compiled programs
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache")

import jax  # noqa: E402
import pytest  # noqa: E402

import envs_c  # noqa: E402
from jaxpuffer.cache import drop_programs  # noqa: E402
from jaxpuffer.registry import env_class, list_envs  # noqa: E402
from parity.proven import is_proven  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


with contextlib.suppress(ValueError):  # SIGINT is ignored if the tests run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also what takes long and shows the same as something else")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_c: needs the C environments")
    config.addinivalue_line("markers", "full: takes long, and shows much the same as another test; with --full only")
    config.addinivalue_line("markers", "of_rules: of the rules of the one environment that is its parameter")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    full, proven = config.getoption("--full"), functools.cache(is_proven)
    for item in items:
        if item.get_closest_marker("needs_c") and not envs_c.is_built():
            item.add_marker(pytest.mark.skip(reason="the C environments are not built"))
        if item.get_closest_marker("full") and not full:
            item.add_marker(pytest.mark.skip(reason="with --full only"))
        if not full and (names := environments_of(item)) and all(map(proven, names)):
            item.add_marker(pytest.mark.skip(reason="nothing it depends on has changed since it passed; --full"))


@pytest.fixture(scope="module", autouse=True)
def room_for_programs() -> Iterator[None]:
    yield
    drop_programs()


def environments_of(item: pytest.Item) -> list[str]:
    """The environments whose rules are all that a test is about; none for other tests."""
    if item.path.parent.name == "envs":
        module = item.path.stem.removeprefix("test_")
        return [name for name in list_envs() if module in (name, env_class(name).__module__.removeprefix("envs_jax."))]
    if not item.get_closest_marker("of_rules"):
        return []
    params = item.callspec.params  # type: ignore[attr-defined]
    return [params.get("name") or params["env"]]
