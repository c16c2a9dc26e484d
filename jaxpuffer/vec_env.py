"""A vector environment over NumPy arrays for people who do not use JAX."""

import copy
import ctypes
import dataclasses
import functools
import math
import os
import weakref
from typing import Any, Self

import jax
import numpy as np

from envs_c import require_built
from jaxpuffer.batch import check_functions
from jaxpuffer.env import LOG_NAMES, Env, figure_names, has_action_mask, has_active
from jaxpuffer.own_header import shown
from jaxpuffer.pytree import parameter_fields
from jaxpuffer.registry import make
from jaxpuffer.spaces import ObservationSpace, action_bounds, choices, mask_sizes, named_parts


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A `VecEnv` at one moment, which `VecEnv.restore` goes back to. It can be pickled."""

    name: str
    params: dict[str, Any]
    arrays: dict[str, np.ndarray]  # states with the episodes' returns and lengths, and all that the last step returned
    seeds: np.random.SeedSequence
    started: bool


class VecEnv:
    """`num_envs` C environments stepped together, with the interface of Gymnasium's `VectorEnv`.

    Every array that `reset` and `step` return is one buffer of this object, updated in
    place by the next call: copy what is to be kept. Ended episodes begin again in the same
    step (Gymnasium's SAME_STEP mode). The GIL is released while the environments step.
    JAX only describes the environment: none of its backends starts.

    It can be copied and pickled, and used in a `with` block. In a forked process it continues from where it was.

    Args:
        name: one of `jaxpuffer.list_envs()`, or an environment of your own with a C header (`jaxpuffer.make`).
        num_envs: number of environments.
        threads: number of threads that step them, including the caller's.
        header: the C twin of an environment of your own, by default what its class attribute `header` names.
        params: the environment's parameters.

    `info` holds `final_obs`, valid where an episode ended; `log`, float32 (num_envs,
    [num_agents,] 5): return, length, score, perf and 1 where an episode ended, otherwise 0, and after these the
    environment's own figures, `log_names`; `_final_obs` and `_log`, bool (num_envs[, num_agents]), true where an
    episode ended; and `action_mask` if some actions can be illegal. If agents can be out before the world's end, it
    also holds `active`, bool (num_envs, num_agents), who acted, and `_log` is true of those alone. Observations of
    several parts are a dict of arrays by name.

    Raises:
        ImportError: the C environments are not built.
        ValueError, TypeError: a parameter, or later an action, is not allowed.
        RuntimeError: `step` before `reset`, or anything after `close`.
    """

    metadata = {"autoreset_mode": "SAME_STEP"}  # noqa: RUF012

    def __init__(
        self,
        name: str | Env,
        num_envs: int = 1,
        threads: int = 1,
        *,
        header: str | os.PathLike[str] | None = None,
        **params: Any,
    ) -> None:
        require_built()
        from envs_c import _core

        for argument, value in (("num_envs", num_envs), ("threads", threads)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{argument} is {value!r}; it must be an int of at least 1")
        self._given, self._header = name, header
        name, twin = _described(name, header, params)
        if isinstance(self._given, Env):
            params = self._given.to_dict()
        values = {}
        self.params: dict[str, Any] = {}
        for field, kind in parameter_fields(type(twin)):
            static = field.metadata["static"]
            if not static and getattr(twin, field.name).shape:
                raise ValueError(f"{shown(name)}: {field.name} has an axis; a VecEnv has the same parameters for all")
            value = getattr(twin, field.name) if static else params.get(field.name, field.default)
            x = values[field.name] = np.asarray(value, np.float32 if kind is float else np.int32)
            # a float is the shortest decimal that reads back as the same float32: 0.01, and not slightly less
            self.params[field.name] = float(str(x)) if kind is float else kind(x)
        self.name = name
        self.num_envs = num_envs
        self.threads = threads
        self.num_agents = twin.num_agents
        self.agent_shape = twin.agent_shape
        self.single_observation_space = twin.observation_space
        self.single_action_space = space = twin.action_space
        self._bounds = action_bounds(space)
        if self._bounds and all((x == x.flat[0]).all() for x in self._bounds):
            self._bounds = tuple(x.ravel()[0].reshape(()) for x in self._bounds)  # several times as fast
        self._action_dtype = space.dtype
        description = _core.descriptions()[name]

        lead = (num_envs, *self.agent_shape)
        row_bytes = description["state_bytes"] + self.num_agents * _core.EPISODE_BYTES
        self._arrays: dict[str, Any] = {
            "params": np.array([value.view(np.uint32) for value in values.values()], np.uint32),
            "rows": np.zeros((num_envs, row_bytes), np.uint8),
            "streams": np.zeros((num_envs, 2), np.uint32),
            "reward": np.zeros(lead, np.float32),
            "terminated": np.zeros(lead, np.bool_),
            "truncated": np.zeros(lead, np.bool_),
            "ended": np.zeros(lead, np.bool_),
            "log": np.zeros((*lead, len(LOG_NAMES) + len(figure_names(twin))), np.float32),
            "action_shape": [*lead, *space.shape],
        }
        for part, box in named_parts(self.single_observation_space):
            for which in ("obs", "final_obs"):
                self._arrays[which + (part and "." + part)] = np.zeros((*lead, *box.shape), box.dtype)
        if has_active(twin):
            self._arrays["active"] = np.ones(lead, np.bool_)
            self._arrays["logged"] = np.zeros(lead, np.bool_)
        #: what the last axis of `info["log"]` has
        self.log_names = (*LOG_NAMES, *(figure for figure, *_ in description["figures"]))
        if has_action_mask(twin):
            self._arrays["mask"] = np.ones((*lead, sum(mask_sizes(space))), np.bool_)
        self._new_batch = functools.partial(_core.NumpyBatch, description["id"], choices(space))
        self._batch = self._new_batch(threads, self._arrays)
        a = self._arrays
        self._obs, final_obs = (_as_returned(self.single_observation_space, a, which) for which in ("obs", "final_obs"))
        self._info = {"final_obs": final_obs, "_final_obs": a["ended"], "log": a["log"], "_log": a["ended"]}
        self._info |= {"action_mask": a["mask"]} if "mask" in a else {}
        self._info |= {"active": a["active"], "_log": a["logged"]} if "active" in a else {}
        self._returned = self._obs, a["reward"], a["terminated"], a["truncated"], self._info
        self._flags = a["terminated"], a["truncated"], a["ended"]
        self._action_shape = tuple(a["action_shape"])
        # named views of the structs: state["steps"][3] reads or sets a field of environment 3
        row = np.dtype(
            {
                "names": [field for field, _, _, _ in description["state"]],
                "formats": [(dtype, (count,)) if count > 1 else dtype for _, dtype, count, _ in description["state"]],
                "offsets": [offset for _, _, _, offset in description["state"]],
                "itemsize": row_bytes,
            }
        )
        self.state = a["rows"].view(row)[:, 0]
        self._seeds = np.random.SeedSequence()
        self._started = False
        self._closed = False
        if threads > 1:
            _with_threads.add(self)

    @functools.cached_property
    def env(self) -> Env:
        """The JAX twin. The first use starts JAX's backend."""
        return self._given if isinstance(self._given, Env) else make(self.name, **self.params)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes in all environments: (obs, info). The same seed gives the same episodes.

        Args:
            seed: None to go on with the seeds that follow from the last one given.
            options: `{"reset_mask": bool (num_envs,)}` begins new episodes in these environments alone; they are
                the episodes that the seed gives them when all begin.

        Raises:
            ValueError, TypeError: a seed, an option or a mask that is not allowed.
        """
        self._refuse_closed()
        which = begin_anew(options, self.num_envs, self._started)
        self._seeds = self._seeds if seed is None else seed_sequence(seed)
        streams = draw_streams(self._seeds, self.num_envs)
        a = self._arrays
        if which.all():
            a["streams"][:] = streams
            self._batch.reset()
        else:
            # a batch of these rows alone, whose results are put back
            some = {name: x[which] for name, x in (a | {"streams": streams}).items() if name not in _OF_ALL}
            self._new_batch(1, some | {name: a[name] for name in _OF_ALL}).reset()
            for name in ["streams", *self._of_state()]:
                a[name][which] = some[name]
        for name in {"reward", "terminated", "truncated", "ended", "log", "logged"} & a.keys():
            a[name][which] = 0
        self._started = True
        return self._obs, self._info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step: (obs, reward, terminated, truncated, info).

        Args:
            actions: an array or nested lists (num_envs, *agent_shape, *action_space.shape). The space's dtype,
                int32 or float32, is the fastest; other integers, and other numbers for a Box, are converted.

        Raises:
            TypeError, ValueError: `actions` has a wrong dtype or shape, or an entry out of range.
            RuntimeError: `reset` was not called, or `close` was.
        """
        if not self._started:
            self._refuse_closed()
            raise RuntimeError("call reset() before step()")
        if type(actions) is not np.ndarray or actions.dtype is not self._action_dtype or not actions.flags.c_contiguous:
            actions = self._converted(actions)
        # a copy, so that the caller's array stays unchanged; a wrong shape or dtype is refused below
        if self._bounds is not None and actions.dtype == self._action_dtype and actions.shape == self._action_shape:
            actions = actions.clip(*self._bounds)
        self._batch.step(actions)
        np.logical_or(*self._flags)
        if "active" in self._info:
            np.logical_and(self._arrays["ended"], self._info["active"], self._info["_log"])
        return self._returned

    def snapshot(self) -> Snapshot:
        """A copy of everything that the next steps and resets depend on, and of what the last one returned."""
        self._refuse_closed()
        arrays = {name: x.copy() for name, x in self._arrays.items() if name not in _OF_ALL}
        return Snapshot(self.name, dict(self.params), arrays, copy.deepcopy(self._seeds), self._started)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, of this object or of another one of the same environments.

        Raises:
            TypeError: it is not a Snapshot.
            ValueError: it is of another environment, other parameters, or another number of environments.
        """
        self._refuse_closed()
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"snapshot is a {type(snapshot).__name__}; it must be what snapshot() returned")
        theirs = {"name": snapshot.name, "num_envs": len(snapshot.arrays["rows"]), **snapshot.params}
        own = {"name": self.name, "num_envs": self.num_envs, **self.params}
        for what, value in theirs.items():
            if own.get(what) != value:
                raise ValueError(f"snapshot has {what} {value!r}; here it must be {own.get(what)!r}")
        for name, x in snapshot.arrays.items():
            self._arrays[name][...] = x
        self._seeds = copy.deepcopy(snapshot.seeds)
        self._started = snapshot.started

    def keep(self, which: np.ndarray) -> dict[str, np.ndarray]:
        """The states, observations and masks of some environments, bool (num_envs,), for `put_back`."""
        return {name: self._arrays[name][which] for name in self._of_state()}

    def put_back(self, which: np.ndarray, kept: dict[str, np.ndarray]) -> tuple[Any, np.ndarray | None]:
        """Undo what was done since `keep` in these environments: the observations and masks of all."""
        for name, x in kept.items():
            self._arrays[name][which] = x
        return self._obs, self._arrays.get("mask")

    def _of_state(self) -> list[str]:
        """The arrays that say where the environments are."""
        return [name for name in self._arrays if name in ("rows", "obs", "mask") or name.startswith("obs.")]

    def render(self, number: int = 0) -> np.ndarray:
        """A picture of one environment, uint8 (height, width, 3). JAX draws it on the CPU; this starts its backend."""
        with jax.default_device("cpu"):
            shapes = jax.eval_shape(self.env.init, jax.ShapeDtypeStruct((2,), np.uint32))
            fields = (self.state[path[0].name][number] for path, _ in jax.tree_util.tree_leaves_with_path(shapes))
            # of arrays with a capacity, the used part
            leaves = [
                np.ravel(field)[: math.prod(leaf.shape)].reshape(leaf.shape).astype(leaf.dtype)
                for field, leaf in zip(fields, jax.tree.leaves(shapes), strict=True)
            ]
            return np.asarray(_picture(self.env, jax.tree.unflatten(jax.tree.structure(shapes), leaves)))

    def close(self) -> None:
        """End the threads. After this, `reset` and `step` are refused; the arrays stay as they are."""
        self._batch = None
        self._started = False
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # copies and pickles continue as this object would, with buffers of their own

    def __getstate__(self) -> dict[str, Any]:
        return {"given": self._given, "header": self._header, "threads": self.threads, "snapshot": self.snapshot()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        snapshot = state["snapshot"]
        params = {} if isinstance(state["given"], Env) else snapshot.params
        num_envs, header = len(snapshot.arrays["rows"]), state["header"]
        VecEnv.__init__(self, state["given"], num_envs, state["threads"], header=header, **params)
        self.restore(snapshot)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this VecEnv is closed; make a new one")

    def _converted(self, actions: Any) -> np.ndarray:
        """Actions in the space's dtype and in one piece of memory; those of a wrong kind as they are."""
        try:
            given = np.asanyarray(actions)
        except ValueError:  # nested lists of different lengths
            raise ValueError(f"actions is {actions!r:.60}; it must be an array of shape {self._action_shape}") from None
        whole = self._action_dtype.kind == "i"
        if given.dtype.kind not in ("iu" if whole else "iuf"):
            return given
        with np.errstate(over="ignore"):  # too large for float32: infinite
            converted = np.asarray(given, self._action_dtype, order="C")
        changed = (converted != given) if whole and given.shape == self._action_shape else np.zeros(1, bool)
        if changed.any():  # too large for int32, so C cannot name the number
            first, sizes = int(np.argmax(changed)), choices(self.single_action_space)
            raise ValueError(
                f"{shown(self.name)}: action {given.flat[first]} of agent {first // len(sizes)} of the batch, entry "
                f"{first % len(sizes)}; it must be from 0 to {sizes[first % len(sizes)] - 1}"
            )
        return converted


def seed_sequence(seed: Any) -> np.random.SeedSequence:
    """Where all streams come from, for an int of at least 0; otherwise a ValueError."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {seed!r}; it must be None or an int of at least 0")
    return np.random.SeedSequence(seed)


def draw_streams(seeds: np.random.SeedSequence, num_envs: int) -> np.ndarray:
    """The next streams of `num_envs` environments, uint32 (num_envs, 2); none is two zeros."""
    (child,) = seeds.spawn(1)
    streams = child.generate_state(2 * num_envs).reshape(num_envs, 2)
    streams[(streams == 0).all(1), 1] = 1
    return streams


def begin_anew(options: dict[str, Any] | None, num_envs: int, started: bool) -> np.ndarray:
    """Which environments the options of `reset` are for, bool (num_envs,).

    Raises:
        ValueError, TypeError: another option than `reset_mask`, or a mask of a wrong kind or without a True.
        RuntimeError: some environments never began.
    """
    for name in options or {}:
        if name != "reset_mask":
            raise ValueError(f"options has {name!r}; the one option is 'reset_mask'")
    if not options or options["reset_mask"] is None:
        return np.ones(num_envs, bool)
    mask = np.asarray(options["reset_mask"])
    if mask.dtype != np.bool_ or mask.shape != (num_envs,):
        raise TypeError(f"reset_mask is {mask.dtype}{list(mask.shape)}; it must be bool[{num_envs}]")
    if not mask.any():
        raise ValueError("reset_mask has no True; at least one environment must begin anew")
    if not started and not mask.all():
        raise RuntimeError("call reset() once for all environments before reset() with a reset_mask")
    return mask


def _as_returned(space: ObservationSpace, arrays: dict[str, Any], which: str) -> Any:
    """Observations as `step` returns them: an array, or a dict of arrays by name."""
    names = [part for part, _ in named_parts(space)]
    return arrays[which] if names == [""] else {name: arrays[f"{which}.{name}"] for name in names}


_OF_ALL = ("params", "action_shape")  # not an entry for each environment
_picture = jax.jit(lambda env, state: env.render(state))
_with_threads: "weakref.WeakSet[VecEnv]" = weakref.WeakSet()


def _described(given: str | Env, header: str | os.PathLike[str] | None, params: dict[str, Any]) -> tuple[str, Env]:
    """The C half's name, and the JAX twin with shapes in place of the values of its parameters, checked against it.

    Values would be arrays of JAX, and making one starts its backend, which on a GPU takes most of the memory.
    So both are traced, for a CPU, and nothing is computed.
    """
    from jaxpuffer.c_backend import check_twin  # needs the C half
    from jaxpuffer.own_header import header_of, load_header

    if isinstance(given, Env):
        if params:
            raise TypeError(f"parameters go with a name; here env.replace({', '.join(params)}=...) changes them")
        own, name = given, load_header(header_of(type(given), header))
        check_functions(own)
        jax.eval_shape(lambda: check_twin(name, own))
        return name, jax.eval_shape(lambda: own)
    if header is not None:
        raise TypeError(f"header goes with an environment of your own; {given!r:.100} has its own header")
    name = given
    with jax.default_device("cpu"):
        try:
            twin = jax.eval_shape(lambda: make(name, **params))
        except (TypeError, ValueError) as error:
            raise error.with_traceback(None) from None  # without JAX's remarks on tracing
        jax.eval_shape(lambda: check_twin(name, twin))
    return name, twin


def _renew_threads() -> None:
    """In a forked process, where the threads are missing: begin new ones."""
    for env in _with_threads:
        if env._batch is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(env._batch))  # never deleted, which would wait for the threads
            env._batch = env._new_batch(env.threads, env._arrays)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_threads)
