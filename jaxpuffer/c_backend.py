"""The C environments inside XLA: the interface of `batch.py`, with an array of struct bytes as the state."""

import dataclasses
import functools
import math
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from envs_c import _core
from jaxpuffer import rng
from jaxpuffer.batch import Batch, BatchState, check_env
from jaxpuffer.devices import in_32_bits, platform
from jaxpuffer.env import LOG_NAMES, NAN, Env, Log, TimeStep, figure_names, has_action_mask, has_active
from jaxpuffer.own_header import shown
from jaxpuffer.pytree import PyTreeNode, parameter_fields
from jaxpuffer.spaces import (
    Composite,
    ObservationSpace,
    Space,
    check_action,
    choices,
    legal,
    mask_sizes,
    named_parts,
    shapes,
)

_TARGET = "jaxpuffer_batch"
_LOG_FIELDS = len(LOG_NAMES)
_GUARD = 1 << 16  # bytes after an observation, so that one too long is detected and does no harm
jax.ffi.register_ffi_target(_TARGET, _core.ffi_target(), platform="cpu")


class CEnv(PyTreeNode):
    """An environment stepped in C; `make(name, backend="c")` makes one.

    It has the parameters and spaces of its JAX twin; a state is uint8 (row_bytes,).
    `threads` is the number of XLA's threads that step a batch; 0 uses all of them.
    """

    env: Env  # the JAX twin
    name: str = dataclasses.field(metadata={"static": True})
    threads: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def observation_space(self) -> ObservationSpace:
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    @property
    def multi_agent(self) -> bool:
        return self.env.multi_agent

    @property
    def num_agents(self) -> int:
        return self.env.num_agents

    @property
    def agent_shape(self) -> tuple[int, ...]:
        return self.env.agent_shape

    def replace(self, **changes: Any) -> Self:
        """A copy with some of the environment's parameters changed."""
        return dataclasses.replace(self, env=self.env.replace(**changes))

    def axes(self, *names: str) -> Self:
        """An `in_axes` for `jax.vmap`: 0 for the named parameters, None for the others."""
        return dataclasses.replace(self, env=self.env.axes(*names))

    def batch(self, num_envs: int) -> "CBatch":
        """`num_envs` of this environment stepped together."""
        return CBatch(self, num_envs)

    def reset(self, key: Array) -> tuple[Array, Any]:
        """A new episode from a JAX key: (state, obs); the same episode as the JAX twin's."""
        return _first(self.batch(1).reset_streams(rng.seed(rng.check_key(key))[None]))

    def step(self, state: Array, action: Array) -> tuple[Array, TimeStep]:
        """One step without auto-reset; raises what the JAX twin raises."""
        action = check_action(self.action_space, action, self.agent_shape)
        state, step = _first(self.batch(1).transition(state[None], action[None]))
        return state, step.replace(log=None)

    def render(self, state: Array) -> Array:
        """A picture of the state, uint8 (height, width, 3)."""
        return self.env.render(_first(self.batch(1).unpack(state[None])).env)


class CBatch(Batch):
    """`num_envs` C environments stepped together; a state is uint8 (num_envs, row_bytes).

    A row is the environment's struct followed by each agent's episode return and length.
    Under `vmap` the new axis joins the rows.

    Raises:
        RuntimeError: JAX's default backend is not a CPU.
        TypeError: the struct and the JAX twin's State differ.
    """

    @in_32_bits
    def __init__(self, env: CEnv, num_envs: int) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
        if platform() != "cpu":
            raise RuntimeError(
                f"backend='c' runs on a CPU, and JAX's default backend here is {platform()!r}; "
                "use backend='jax', or set JAX_PLATFORMS=cpu"
            )
        check_env(env.env)
        self.c_env = env
        self.env = env.env
        self.num_envs = num_envs
        self.description = _core.descriptions()[env.name]
        check_twin(env.name, env.env)
        self.row_bytes = self.description["state_bytes"] + env.num_agents * _core.EPISODE_BYTES
        self._figures = figure_names(env.env)

    @in_32_bits
    def reset_streams(self, streams: Array) -> tuple[Any, Any]:
        state, *obs = self._call(_core.RESET | _core.OBSERVE, streams, results=(self._rows, *self._obs()))
        return state, self._observation(obs)

    @in_32_bits
    def step(self, state: Any, actions: Array) -> tuple[Any, TimeStep]:
        parts = self._obs()
        state, *found = self._call(_core.STEP, state, actions, results=(self._rows, *parts, *self._outcome))
        obs, outcome = found[: len(parts)], found[len(parts) :]
        return state, self._time_step(self._observation(obs), *outcome)

    @in_32_bits
    def transition(self, state: Any, actions: Array) -> tuple[Any, TimeStep]:
        results = (self._rows, *self._outcome)
        state, *outcome = self._call(_core.TRANSITION, state, actions, results=results)
        return state, self._time_step(self.observe(state), *outcome)

    @in_32_bits
    def reset_ended(self, state: Any, step: TimeStep) -> tuple[Any, Any]:
        what, results = _core.RESET_ENDED | _core.OBSERVE, (self._rows, *self._obs())
        state, *obs = self._call(what, state, step.terminated, step.truncated, results=results)
        return state, self._observation(obs)

    @in_32_bits
    def observe(self, state: Any) -> Any:
        return self._observation(self._call(_core.OBSERVE, state, results=self._obs(len(state))))

    @in_32_bits
    def action_mask(self, state: Any) -> Array | None:
        if not has_action_mask(self.env):
            return None
        shape = (*self._per_agent, sum(mask_sizes(self.env.action_space)))
        return self._call(_core.ACTION_MASK, state, results=(jax.ShapeDtypeStruct(shape, jnp.bool_),))[0]

    @in_32_bits
    def score(self, state: Any) -> tuple[Array, Array]:
        found = self._scores(state)
        return found[..., 0], found[..., 1]

    @in_32_bits
    def figures(self, state: Any) -> dict[str, Array]:
        if not self._figures:
            return {}
        found = self._scores(state)
        return {name: found[..., 2 + i] for i, (name, *_) in enumerate(self.description["figures"])}

    def _scores(self, state: Any) -> Any:
        """Score, perf and the figures of each agent."""
        shape = jax.ShapeDtypeStruct((*self._per_agent, 2 + len(self._figures)), jnp.float32)
        return self._call(_core.SCORE, state, results=(shape,))[0]

    @in_32_bits
    def unpack(self, state: Any) -> BatchState:
        """The rows' bytes as the JAX twin's state; of arrays with a capacity, the used part."""
        shapes = jax.eval_shape(self.env.init, jax.ShapeDtypeStruct((2,), jnp.uint32))
        fields = {}
        for (name, dtype, _, offset), (path, leaf) in zip(
            self.description["state"], jax.tree_util.tree_flatten_with_path(shapes)[0], strict=True
        ):
            assert jax.tree_util.keystr(path) == f".{name}"
            fields[name] = _read(state, offset, leaf.shape, np.dtype(dtype)).astype(leaf.dtype)
        size, agents = self.description["state_bytes"], self.env.num_agents
        episodes = state[:, size:].reshape(len(state), agents, 2, 4)
        shape = (len(state), *self.env.agent_shape)
        return BatchState(
            env=jax.tree.unflatten(jax.tree.structure(shapes), fields.values()),
            episode_return=lax.bitcast_convert_type(episodes[:, :, 0], jnp.float32).reshape(shape),
            episode_length=lax.bitcast_convert_type(episodes[:, :, 1], jnp.int32).reshape(shape),
        )

    def pack(self, state: BatchState) -> Array:
        """The inverse of `unpack`; the unused part of an array is zero."""
        num_envs = len(state.episode_return)
        parts, used = [], 0
        for (_, dtype, count, offset), leaf in zip(self.description["state"], jax.tree.leaves(state.env), strict=True):
            assert offset == used
            part = _bytes(leaf.astype(dtype), num_envs)
            used += count * np.dtype(dtype).itemsize
            parts.append(jnp.pad(part, ((0, 0), (0, used - offset - part.shape[1]))))
        agents = self.env.num_agents
        episodes = [
            _bytes(x, num_envs).reshape(num_envs, agents, 4) for x in (state.episode_return, state.episode_length)
        ]
        return jnp.concatenate([*parts, jnp.concatenate(episodes, -1).reshape(num_envs, -1)], 1)

    @property
    def _per_agent(self) -> tuple[int, ...]:
        return (self.num_envs, *self.env.agent_shape)

    @property
    def _rows(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.num_envs, self.row_bytes), jnp.uint8)

    def _obs(self, rows: int | None = None) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Each part of the observations of so many environments, of all if None."""
        lead = (self.num_envs if rows is None else rows, *self.env.agent_shape)
        return tuple(jax.tree.leaves(shapes(self.env.observation_space, lead)))

    def _observation(self, parts: Any) -> Any:
        """The parts put together."""
        space = self.env.observation_space
        return type(space.boxes)(*parts) if isinstance(space, Composite) else parts[0]

    @property
    def _outcome(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        flags = jax.ShapeDtypeStruct(self._per_agent, jnp.bool_)
        number = jax.ShapeDtypeStruct(self._per_agent, jnp.float32)
        log = [number] * (_LOG_FIELDS + len(self._figures))
        return number, flags, flags, *log, *[flags] * has_active(self.env)

    def _time_step(self, obs: Any, reward: Array, terminated: Array, truncated: Array, *rest: Array) -> TimeStep:
        names = [name for name, *_ in self.description["figures"]]  # in the order of the struct
        figures = dict(zip(names, rest[_LOG_FIELDS:], strict=False))
        active = rest[-1] if has_active(self.env) else None
        log = Log(*rest[:_LOG_FIELDS]).replace(figures=figures or None)
        return TimeStep(obs, reward, terminated, truncated, log, active)

    def _call(self, what: int, *operands: Array, results: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
        wrong = None
        if what & _core.TRANSITION:
            expected = (*self._per_agent, *self.env.action_space.shape)
            actions = operands[1]
            if actions.shape != expected or actions.dtype != self.env.action_space.dtype:
                raise TypeError(
                    f"actions are {actions.dtype}{list(actions.shape)}; "
                    f"{shown(self.c_env.name)} needs {self.env.action_space.dtype}{list(expected)}"
                )
            if jnp.issubdtype(actions.dtype, jnp.floating):
                actions, wrong = legal(self.env.action_space, actions)
            operands = (operands[0], actions)  # C itself handles choices out of range
        in_place = what & (_core.TRANSITION | _core.RESET_ENDED)
        call = jax.ffi.ffi_call(
            _TARGET, results, vmap_method="broadcast_all", input_output_aliases={1: 0} if in_place else None
        )
        found = call(
            _param_words(self.env),
            *operands,
            env=np.int64(self.description["id"]),
            what=np.int64(what),
            agents=np.int64(self.env.num_agents),
            choices=np.array(choices(self.env.action_space), np.int64),
            threads=np.int64(self.c_env.threads),
        )
        if wrong is None:
            return found
        reward = len(results) - len(self._outcome)
        return [jnp.where(wrong, NAN, x) if i == reward else x for i, x in enumerate(found)]


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def _param_words(env: Env) -> Array:
    """The parameter struct, uint32 (words,)."""
    words = []
    for field, kind in parameter_fields(type(env)):
        value = jnp.asarray(getattr(env, field.name), jnp.float32 if kind is float else jnp.int32)
        words.append(lax.bitcast_convert_type(value, jnp.uint32))
    return jnp.stack(words)


def _read(rows: Array, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    part = rows[:, offset : offset + math.prod(shape) * dtype.itemsize]
    part = part.reshape(len(rows), *shape, *([dtype.itemsize] if dtype.itemsize > 1 else []))
    return lax.bitcast_convert_type(part, dtype)


def _bytes(x: Array, num_envs: int) -> Array:
    return lax.bitcast_convert_type(x, jnp.uint8).reshape(num_envs, -1)


def check_twin(name: str, env: Env) -> None:
    """Check, once for each kind of environment, that the header matches the JAX class.

    Raises:
        TypeError: they differ in parameters, state, agents, mask, perf, or the size of observations or masks.
        ValueError: a static parameter does not fit in 32 bits.
    """
    _check_twin(name, jax.tree.structure(env), tuple(x.dtype for x in jax.tree.leaves(env)))


@functools.cache
def _check_twin(name: str, structure: Any, dtypes: tuple[Any, ...]) -> None:
    """Check that the struct's and the JAX State's fields agree in name, order, type and size."""
    env = jax.tree.unflatten(structure, [jnp.zeros((), dtype) for dtype in dtypes])
    description, title = _core.descriptions()[name], shown(name)
    for field, kind in parameter_fields(type(env)):
        if kind not in (int, float, bool) or np.ndim(field.metadata.get("default", 0)):
            raise TypeError(
                f"{type(env).__name__}.{field.name} is not a single number; C has no such parameters, so this "
                "environment has no C twin"
            )
        if kind is int and field.metadata["static"] and abs(getattr(env, field.name)) > np.iinfo(np.int32).max:
            raise ValueError(
                f"{type(env).__name__}.{field.name} is {getattr(env, field.name)}; in C it must fit in 32 bits"
            )

    params = [(f.name, "float32" if kind is float else "int32") for f, kind in parameter_fields(type(env))]
    if params != [(n, t) for n, t, _, _ in description["params"]]:
        raise TypeError(f"{title}: the C parameters {description['params']} differ from the JAX twin's {params}")

    shapes = jax.eval_shape(env.init, jax.ShapeDtypeStruct((2,), jnp.uint32))
    leaves = jax.tree_util.tree_flatten_with_path(shapes)[0]
    twin = [(jax.tree_util.keystr(path)[1:], leaf) for path, leaf in leaves]
    in_c, in_jax = [n for n, *_ in description["state"]], [n for n, _ in twin]
    if in_c != in_jax:
        raise TypeError(f"{title}: the C state has {in_c}, the JAX twin {in_jax}")
    for (field, dtype, count, _), (_, leaf) in zip(description["state"], twin, strict=True):
        wide = "uint8" if leaf.dtype == jnp.bool_ else str(leaf.dtype)
        if dtype != wide or count < math.prod(leaf.shape):
            raise TypeError(
                f"{title}: state field {field} is {dtype}[{count}] in C and {leaf.dtype}{list(leaf.shape)} in JAX"
            )
    _check_obs(title, description, env.observation_space)
    if description["action_dtype"] != str(env.action_space.dtype):
        raise TypeError(f"{title}: action is {description['action_dtype']} in C and {env.action_space.dtype} in JAX")
    figures = sorted(figure for figure, *_ in description["figures"])
    if figures != list(figure_names(env)):
        raise TypeError(f"{title}: the log's figures are {figures} in C (NAME_log), and {figure_names(env)} in JAX")

    for what, c_has, jax_has in (
        ("several agents (NAME_respawn)", description["multi_agent"], env.multi_agent),
        ("action_mask", description["has_action_mask"], has_action_mask(env)),
        ("active", description["has_active"], has_active(env)),
        ("perf", description["has_perf"], type(env).perf is not Env.perf),
    ):
        if c_has != jax_has:
            has, lacks = ("C", "JAX") if c_has else ("JAX", "C")
            raise TypeError(f"{title}: there is {what} in {has} and none in {lacks}")
    if env.num_agents > description["max_agents"]:
        limit = f"{name.partition('#')[0].upper()}_MAX_AGENTS"
        raise TypeError(f"{title}: {env.num_agents} agents are more than {limit}, {description['max_agents']}")
    _check_written(name, env)


def _check_obs(title: str, description: dict[str, Any], space: ObservationSpace) -> None:
    """Check that the parts of an observation agree in name, dtype and size."""
    fields = description["obs"]
    in_jax = [part for part, _ in named_parts(space)] if isinstance(space, Composite) else []
    if [field for field, *_ in fields] != in_jax:
        raise TypeError(
            f"{title}: the parts of an observation are {[field for field, *_ in fields]} in C (NAME_obs), and {in_jax} "
            "in JAX"
        )
    if isinstance(space, Composite):
        for (field, dtype, count, _), (_, box) in zip(fields, space.parts, strict=True):
            if dtype != str(box.dtype) or count < math.prod(box.shape):
                raise TypeError(
                    f"{title}: obs.{field} is {dtype}[{count}] in C and {box.dtype}{list(box.shape)} in JAX"
                )
    elif description["obs_dtype"] != str(space.dtype):
        raise TypeError(f"{title}: obs is {description['obs_dtype']} in C and {space.dtype} in JAX")


def _check_written(name: str, env: Env) -> None:
    """Check that C writes a whole first observation and mask and nothing after them, in a larger buffer."""
    description, lead = _core.descriptions()[name], (1, *env.agent_shape)
    words = [
        np.asarray(
            getattr(env, f.name) if f.metadata["static"] else f.default, np.float32 if kind is float else np.int32
        )
        for f, kind in parameter_fields(type(env))
    ]
    parts, space = dict(named_parts(env.observation_space)), env.observation_space
    sizes = {}
    if not isinstance(space, Composite):  # a struct has no more than its fields
        sizes["obs"] = env.num_agents * math.prod(space.shape) * space.dtype.itemsize
    if description["has_action_mask"]:
        sizes["mask"] = env.num_agents * sum(mask_sizes(env.action_space))

    def written_over(fill: int) -> dict[str, np.ndarray]:
        buffers = {what: np.full((1, size + _GUARD), fill, np.uint8) for what, size in sizes.items()}
        arrays: dict[str, Any] = {
            f"obs.{part}": np.zeros((*lead, *box.shape), box.dtype) for part, box in parts.items() if part
        }
        for what, buffer in buffers.items():
            arrays[what] = buffer.view(parts[""].dtype if what == "obs" else np.bool_)
        arrays |= {f"final_{what}": x.copy() for what, x in arrays.items() if what != "mask"}
        arrays |= {
            "params": np.array([word.view(np.uint32) for word in words], np.uint32),
            "rows": np.zeros((1, description["state_bytes"] + env.num_agents * _core.EPISODE_BYTES), np.uint8),
            "streams": np.array([[1, 2]], np.uint32),
            "reward": np.zeros(lead, np.float32),
            "terminated": np.zeros(lead, np.bool_),
            "truncated": np.zeros(lead, np.bool_),
            "log": np.zeros((*lead, _LOG_FIELDS + len(description["figures"])), np.float32),
            "active": np.zeros(lead, np.bool_),
        }
        shape: Any = [*lead, *env.action_space.shape]
        batch = _core.NumpyBatch(description["id"], choices(env.action_space), 1, arrays | {"action_shape": shape})
        batch.reset()
        return buffers

    one, other = written_over(0x55), written_over(0xAA)
    for what, size in sizes.items():
        written = (one[what] == other[what])[0]
        if written[size:].any() or not written[:size].all():
            total = int(written.sum())
            kind = "an observation" if what == "obs" else "a mask"
            raise TypeError(f"{shown(name)}: C writes {total} bytes of {kind} of all agents; JAX has {size}")
