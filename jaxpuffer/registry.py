"""make(name, backend, **params) and list_envs()."""

import difflib
import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jaxlib

from jaxpuffer.devices import on_cpu
from jaxpuffer.env import Env
from jaxpuffer.pytree import check_names

# one line per environment: its name, and its class in envs_jax; its C twin is envs_c/NAME.h
ENVS = {
    "asteroids": "asteroids.Asteroids",
    "boids": "boids.Boids",
    "breakout": "breakout.Breakout",
    "capture_the_flag": "capture_the_flag.CaptureTheFlag",
    "cartpole": "cartpole.CartPole",
    "cartpole_continuous": "cartpole.CartPoleContinuous",
    "chess": "chess.Chess",
    "connect4": "connect4.Connect4",
    "connect4_two": "connect4.Connect4Two",
    "convert": "convert.Convert",
    "cpr": "cpr.Cpr",
    "drone": "drone.Drone",
    "g2048": "g2048.G2048",
    "go": "go.Go",
    "go_two": "go.GoTwo",
    "hex": "hex.Hex",
    "maze": "maze.Maze",
    "memory": "memory.Memory",
    "overcooked": "overcooked.Overcooked",
    "pacman": "pacman.Pacman",
    "platformer": "platformer.Platformer",
    "pong": "pong.Pong",
    "pong_two": "pong.PongTwo",
    "robocode": "robocode.Robocode",
    "rware": "rware.Rware",
    "snake": "snake.Snake",
    "squared": "squared.Squared",
    "target": "target.Target",
    "tetris": "tetris.Tetris",
    "tower_climb": "tower_climb.TowerClimb",
    "trash_pickup": "trash_pickup.TrashPickup",
    "tripletriad": "tripletriad.TripleTriad",
    "tripletriad_two": "tripletriad.TripleTriadTwo",
    "turing": "turing.Turing",
}

Backend = Literal["jax", "c"]


def list_envs() -> list[str]:
    """The names that `make` takes."""
    return sorted(ENVS)


def env_class(name: str) -> type[Env]:
    """The JAX class of a registered environment.

    Raises:
        ValueError: no such environment; the message has the nearest name.
        TypeError: `name` is not a string.
    """
    if not isinstance(name, str):
        own = f", or an environment, such as {name.__name__}()" if isinstance(name, type) else ""
        raise TypeError(f"name is {name!r:.100}; it must be a registered name, such as 'cartpole'{own}")
    if name not in ENVS:
        near = difflib.get_close_matches(name, ENVS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no environment {name!r}{hint} (there are: {', '.join(list_envs())})")
    module, cls = ENVS[name].split(".")
    return getattr(importlib.import_module(f"envs_jax.{module}"), cls)


def check_envs(names: Iterable[str], refuse: Callable[[str], Any]) -> None:
    """Call `refuse`, for example an argument parser's `error`, with a message if a name is not an environment's."""
    for name in names:
        try:
            env_class(name)
        except ValueError as error:
            refuse(str(error))


def name_of(env: Any) -> str | None:
    """The registered name of an environment of either backend, None for one that is not registered."""
    return _registered(type(getattr(env, "env", env)))


def ancestor_of(env: Any) -> str | None:
    """The registered name of an environment's class, or of the nearest registered class that it derives from."""
    names = map(_registered, type(getattr(env, "env", env)).__mro__)
    return next((name for name in names if name is not None), None)


def _registered(cls: type) -> str | None:
    path = f"{cls.__module__}.{cls.__name__}"
    return next((name for name, own in ENVS.items() if path == f"envs_jax.{own}"), None)


def as_env(env: Any) -> Any:
    """The environment itself, or the registered one of that name, in JAX, with its default parameters.

    Raises:
        TypeError: `env` is neither.
        ValueError: there is no such name.
    """
    if isinstance(env, str):
        return make(env)
    if isinstance(env, type) or not hasattr(env, "batch"):
        given = f"the class {env.__name__}" if isinstance(env, type) else f"a {type(env).__name__}"
        raise TypeError(f"env is {given}; it must be an environment, such as make('cartpole'), or a registered name")
    return env


def c_is_built() -> bool:
    """Whether the C environments are installed."""
    from envs_c import is_built

    return is_built()


def default_backend() -> Backend:
    """The faster backend here: C on a CPU if it is built, otherwise JAX."""
    return "c" if on_cpu() and c_is_built() else "jax"


def make(
    name: str | Env,
    backend: Backend = "jax",
    threads: int = 0,
    *,
    header: str | os.PathLike[str] | None = None,
    **params: Any,
) -> Any:
    """An environment with its default parameters, some of them changed.

    Args:
        name: one of `list_envs()`, or an environment of your own.
        backend: "jax", or "c" for the C twin, which steps inside `jit` on a CPU.
        threads: number of XLA's threads for the C backend; 0 for all.
        header: the C twin of an environment of your own, written as envs_c/env.h says, which is compiled with this
            machine's C compiler; by default what its class attribute `header` names.
        params: the environment's parameters.

    Returns:
        An `Env`, or a `CEnv` with the same parameters, spaces and trajectories.

    Raises:
        ValueError: no such name or backend, a parameter out of range, or a header for the JAX backend.
        TypeError: no such parameter, or one of a wrong type; or the C twin of an environment of your own differs from
            its class in parameters, state, agents, mask, perf, or the size of observations or masks.
        ImportError: `backend="c"`, and the C environments are not built, or were built for a later jaxlib; or there
            is no compiler for `header`.
        FileNotFoundError: there is no such header.
    """
    if isinstance(name, Env):
        check_names(type(name), params, owner=type(name).__name__)
        env = name.replace(**params)
    else:
        cls = env_class(name)
        check_names(cls, params, owner=name)
        env = cls(**params)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise ValueError(f"threads is {threads!r}; it must be a whole number, 0 (all) or more")
    if header is not None and not isinstance(header, str | os.PathLike):
        raise TypeError(f"header is {header!r:.100}; it must be a path")
    if backend == "jax":
        if header is not None:
            raise ValueError(f"header is {str(header)!r}, and the backend is 'jax'; a header goes with backend='c'")
        return env
    if backend != "c":
        raise ValueError(f"backend is {backend!r}; it must be 'jax' or 'c'")
    from envs_c import require_built

    require_built()
    try:
        from jaxpuffer.c_backend import CEnv, check_twin
    except RuntimeError as error:  # XLA refuses a target of a version that it does not know
        raise ImportError(
            f"the C environments do not fit jaxlib {jaxlib.__version__}; upgrade jax ({error})"
        ) from error

    registered = name if isinstance(name, str) else name_of(env)
    if registered is None or header is not None:
        from jaxpuffer.batch import check_functions
        from jaxpuffer.own_header import header_of, load_header

        name = load_header(header_of(type(env), header))
        check_functions(env)
        check_twin(name, env)
        return CEnv(env, name, threads)
    return CEnv(env, registered, threads)
