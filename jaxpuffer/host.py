"""Host-stepped environments: Python steps them with NumPy arrays, and the policy acts in a jitted program between.

A `HostEnv` has the spaces that networks, configurations and saves read; its `batch` is what
a program may know of environments that it cannot step. `Worlds` are the environments
themselves: a vector environment with Gymnasium's interface, whose way of resetting is hidden
here. `collect_on_host` plays a rollout with them, as `play.collect` does with others.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.config import PPOConfig
from jaxpuffer.devices import available_cores
from jaxpuffer.env import Log
from jaxpuffer.play import Choice, Play, Rollout, act, truncated_values
from jaxpuffer.policy import Policy
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.spaces import Space, action_bounds, mask_sizes

AUTORESET_MODES = ("NEXT_STEP", "SAME_STEP", "DISABLED")
SEEDS = 2**30  # Gymnasium gives environment i the seed + i, which must fit in 31 bits


@jax.tree_util.register_static
@dataclass(frozen=True)
class HostEnv:
    """An environment that Python steps. `jaxpuffer.adapters.from_gymnasium` makes one.

    Two are equal if a program for the one serves the other, so that they share compilations.
    """

    name: str = field(compare=False)
    make_vec: Callable[[int], Any] = field(compare=False, repr=False)  # a vector environment of so many
    observation_space: Space
    action_space: Space
    agent_shape: tuple[int, ...] = ()  # () or (num_agents,), as in `Env`
    masked: bool = False  # whether `info["action_mask"]` says which actions are legal
    processes: bool = False  # whether each environment is a process
    # the vector environment's observations (n, ...) in `observation_space`, and actions (n, ...) in its own space
    decode: Callable[[Any], Any] = field(default=lambda obs: obs, compare=False, repr=False)
    encode: Callable[[np.ndarray], Any] = field(default=lambda action: action, compare=False, repr=False)

    @property
    def multi_agent(self) -> bool:
        return bool(self.agent_shape)

    @property
    def num_agents(self) -> int:
        return self.agent_shape[0] if self.agent_shape else 1

    def batch(self, num_envs: int) -> "HostBatch":
        return HostBatch(self, num_envs)

    def render(self, state: Any) -> Any:
        raise TypeError(f"{self.name} is stepped by Python and has no pictures here; record them with its own library")

    def to_dict(self) -> dict[str, Any]:
        """What a saved run says about the environment, as JSON values."""
        spaces = {"observation_space": str(self.observation_space), "action_space": str(self.action_space)}
        return {"name": self.name, **spaces}


def check_outside_jit(env: HostEnv, *arguments: Any) -> None:
    """Raise TypeError if a program is being traced, or if an argument has a traced leaf."""
    # inside `jit` an array of constants is traced too
    leaves = jax.tree.leaves((arguments, jnp.zeros(())))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError(f"{env.name} is stepped by Python, so it cannot be trained or played inside jit or vmap")


class Seen(PyTreeNode):
    """What a program knows of host-stepped environments, in the place of their states."""

    mask: Any = None  # bool (num_envs, *agent_shape, n), None if all actions are legal
    obs: Any = None  # (num_envs, *agent_shape, ...), where it is asked for: the final observations


class HostBatch:
    """`num_envs` host-stepped environments as a program sees them."""

    def __init__(self, env: HostEnv, num_envs: int) -> None:
        self.env, self.num_envs = env, num_envs

    def reset_streams(self, streams: Array) -> tuple[Seen, Array]:
        """Before their first reset, which `Worlds` do: observations of zeros."""
        space, lead = self.env.observation_space, (self.num_envs, *self.env.agent_shape)
        choices = (*lead, sum(mask_sizes(self.env.action_space)))
        return Seen(jnp.ones(choices, bool) if self.env.masked else None), jnp.zeros((*lead, *space.shape), space.dtype)

    def action_mask(self, seen: Seen) -> Array | None:
        return seen.mask

    def take(self, seen: Seen, rows: Array) -> Seen:
        return jax.tree.map(lambda x: x[rows], seen)

    def observe(self, seen: Seen) -> Array:
        return seen.obs

    def transition(self, seen: Seen, actions: Array) -> Any:
        raise TypeError(
            f"{self.env.name} is stepped by Python, not inside a program: train, fit and evaluate take it, nothing else"
        )


class Step(NamedTuple):
    """A step of all agents, NumPy arrays with one entry per row."""

    idle: np.ndarray  # bool, this was no step: the episode had ended before it, and the environment was reset
    reward: np.ndarray  # float32
    terminated: np.ndarray  # bool
    truncated: np.ndarray  # bool, never together with `terminated`
    final_obs: np.ndarray  # (rows, ...), valid where truncated
    obs: np.ndarray  # (rows, ...), to act on next
    first: np.ndarray  # bool, `obs` is the first of an episode
    mask: Any  # bool (rows, n) or None, belongs to `obs`

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated


class Worlds:
    """A vector environment in any of Gymnasium's autoreset modes, with one meaning of a step.

    NEXT_STEP: the step after an end only resets, and its action is ignored; that step is `idle`, and the
    observation before it, the final one, is not acted on. SAME_STEP: the observation after an end is the first of
    the next episode, and `info["final_obs"]` has the final one. DISABLED: what ended is reset here, at once.

    Raises:
        ValueError: the vector environment does not say its mode, or is not of `num_envs` environments; or later,
            what it returns has another shape, or lacks what its mode promises.
    """

    def __init__(self, env: HostEnv, num_envs: int) -> None:
        self.env, self.num_envs, self.rows = env, num_envs, num_envs * env.num_agents
        most = max(64, 32 * available_cores())
        if env.processes and num_envs > most:
            raise ValueError(
                f"{env.name}: num_envs is {num_envs}, and each environment would be a process; at most {most} are "
                "reasonable here: set PPOConfig.num_envs, or use a SyncVectorEnv"
            )
        self.vec = env.make_vec(num_envs)
        try:
            self.mode = autoreset_mode(env.name, self.vec)
            if self.vec.num_envs != num_envs:
                raise ValueError(f"{env.name}: make_vec({num_envs}) made {self.vec.num_envs} environments")
            if env.multi_agent and self.mode == "NEXT_STEP":
                raise ValueError(f"{env.name}: worlds of several agents must reset in mode SAME_STEP or DISABLED")
        except ValueError:
            self.vec.close()
            raise
        self.bounds = action_bounds(env.action_space)
        self.pending = np.zeros(self.rows, bool)  # the next step only resets
        self.mask: Any = None  # as in `Step`
        self.episodes = Episodes(self.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.vec.close()

    def begin(self, play: Play, seed: int) -> Play:
        """New episodes in all environments: `play` with their first observations."""
        try:
            obs, info = self.vec.reset(seed=seed)
        except BaseException:  # of an environment: any
            self.vec.close()
            raise
        self.pending, self.episodes = np.zeros(self.rows, bool), Episodes(self.rows)
        first = np.ones(self.rows, bool)
        self.mask = self._mask(info, first)
        return self._seen(play, self._obs(obs), first, self.mask)

    def play_on(self, play: Play, action: Array) -> tuple[Play, Step]:
        """One step of all environments, with the actions (rows, ...): `play` with what is seen next."""
        step = self._step(np.asarray(action))
        self.mask = step.mask
        self.episodes.add(step)
        return self._seen(play, step.obs, step.first, step.mask), step

    def _seen(self, play: Play, obs: np.ndarray, first: np.ndarray, mask: Any) -> Play:
        mask = None if mask is None else self.per_agent(mask)
        return play.replace(envs=Seen(mask), obs=obs, reset=first)

    def _step(self, action: np.ndarray) -> Step:
        if self.bounds is not None:
            action = np.clip(action, *self.bounds)
        result = self.vec.step(self.env.encode(self.per_agent(action)))
        obs, info = self._obs(result[0]), result[4]
        reward, terminated, truncated = (
            self._array(name, x, dtype)
            for name, x, dtype in zip(
                ("reward", "terminated", "truncated"), result[1:4], (np.float32, np.bool_, np.bool_), strict=True
            )
        )
        idle = self.pending
        terminated, truncated = terminated & ~idle, truncated & ~terminated & ~idle
        first = ended = terminated | truncated
        final_obs = obs
        if self.mode == "NEXT_STEP":
            self.pending, first = ended, idle
        elif self.mode == "SAME_STEP":
            final_obs = self._final_obs(info, truncated, obs)
        elif ended.any():
            worlds = ended.reshape(self.num_envs, -1)
            if (worlds.any(1) != worlds.all(1)).any():
                raise ValueError(f"{self.env.name}: agents end at different times; the mode must be SAME_STEP")
            again, info = self.vec.reset(options={"reset_mask": worlds.any(1)})
            obs = np.where(ended.reshape(-1, *[1] * (obs.ndim - 1)), self._obs(again), obs)
        new = first if self.mode == "DISABLED" and ended.any() else np.ones_like(ended)
        mask = self._mask(info, new)
        if mask is not None:
            mask = mask | self.pending[:, None]  # the action after an end is ignored
        return Step(idle, np.where(idle, np.float32(0), reward), terminated, truncated, final_obs, obs, first, mask)

    def _final_obs(self, info: dict[str, Any], truncated: np.ndarray, obs: np.ndarray) -> np.ndarray:
        final_obs = np.zeros_like(obs)
        where = np.flatnonzero(truncated.reshape(self.num_envs, -1).any(1))
        if len(where):
            if "final_obs" not in info:
                raise ValueError(
                    f"{self.env.name}: an episode was truncated in mode SAME_STEP, without info['final_obs']"
                )
            some = jax.tree.map(lambda *x: np.stack(x), *[info["final_obs"][i] for i in where])
            of_worlds = self.per_agent(final_obs)
            of_worlds[where] = np.asarray(self.env.decode(some))
        return final_obs

    def _mask(self, info: dict[str, Any], new: np.ndarray) -> Any:
        """The action masks, bool (rows, n), of which those in `info` are for the rows `new`."""
        if not self.env.masked:
            return None
        if "action_mask" not in info:
            raise ValueError(f"{self.env.name}: info has no action_mask; the first reset's info had one")
        shape = self.num_envs, *self.env.agent_shape, sum(mask_sizes(self.env.action_space))
        if np.shape(info["action_mask"]) != shape:
            is_now = np.shape(info["action_mask"])
            raise ValueError(f"{self.env.name}: info['action_mask'] has the shape {is_now}; it must be {shape}")
        mask = np.array(info["action_mask"], bool).reshape(self.rows, -1)
        return mask if self.mask is None else np.where(new[:, None], mask, self.mask)

    def _obs(self, obs: Any) -> np.ndarray:
        """A copy of observations, one per row, because the vector environment may use its arrays again."""
        return self._array("an observation", self.env.decode(obs), self.env.observation_space.dtype)

    def _array(self, what: str, value: Any, dtype: Any) -> np.ndarray:
        shape = self.env.observation_space.shape if what == "an observation" else ()
        array, full = np.asarray(value), (self.num_envs, *self.env.agent_shape, *shape)
        if array.shape != full:
            raise ValueError(f"{self.env.name}: the shape of {what} of all is {array.shape}; it must be {full}")
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(f"{self.env.name}: {what} is {array.dtype}; it must be {np.dtype(dtype)}")
        return np.array(array, dtype).reshape(self.rows, *shape)

    def per_agent(self, x: np.ndarray) -> np.ndarray:
        """An array (rows, ...) with the axes (num_envs, *agent_shape, ...)."""
        return x.reshape(self.num_envs, *self.env.agent_shape, *x.shape[1:])


def autoreset_mode(name: str, vec: Any) -> str:
    """The autoreset mode of a vector environment: its name in `AUTORESET_MODES`.

    Raises:
        ValueError: it does not say.
    """
    mode = getattr(vec, "metadata", {}).get("autoreset_mode")
    mode = getattr(mode, "name", mode)  # Gymnasium's enum, or its name
    if mode not in AUTORESET_MODES:
        raise ValueError(
            f"{name}: metadata['autoreset_mode'] is {mode!r}; it must be one of {', '.join(AUTORESET_MODES)} "
            "(Gymnasium 1.1 and later set it)"
        )
    return mode


def world_seed(key: Array) -> int:
    """A seed for all environments of a vector environment, from a JAX key."""
    return int(np.asarray(jax.random.key_data(key)).ravel()[-1]) % SEEDS


class Episodes:
    """Return and length of the running episodes, and the log of those that ended."""

    def __init__(self, rows: int) -> None:
        self.returns, self.lengths = np.zeros(rows), np.zeros(rows, np.int64)
        self.total = np.zeros(3)  # return, length, number

    def add(self, step: Step) -> None:
        self.returns += step.reward
        self.lengths += ~step.idle
        ended = step.ended
        if ended.any():
            self.total += self.returns[ended].sum(), self.lengths[ended].sum(), ended.sum()
            self.returns[ended], self.lengths[ended] = 0.0, 0

    def log(self) -> Log:
        """Of the episodes that ended since the last call. The score is the return: Gymnasium has no other."""
        total: Any = self.total.astype(np.float32)
        returns, lengths, number = total
        self.total = np.zeros(3)
        return Log(returns, lengths, returns, returns, number)


def collect_on_host(
    worlds: Worlds, policy: Policy, play: Play, config: PPOConfig
) -> tuple[Play, tuple[Rollout, Array], Log]:
    """Play `horizon` steps of every row: (the play after them, the rollout and the next values, the log).

    The rollout is raw: rewards are not yet scaled and clipped. What the policy saw and did stays
    on the device. Where some rows have idle steps, the others play on until every row has made its steps, and
    what they do beyond theirs is not trained on.
    """
    env, horizon, rows = worlds.env, config.horizon, np.arange(worlds.rows)
    made = nothing_made(env, policy, play, horizon)
    reward, rest = np.zeros((2, horizon, worlds.rows), np.float32)
    ended, truncated = np.zeros((2, horizon, worlds.rows), bool)
    done = np.zeros(worlds.rows, np.int32)  # steps of each row so far
    while (done < horizon).any():
        at = np.where(worlds.pending, np.int32(horizon + 1), done)
        play, action, made = choose_and_keep(env, policy, play, made, at)
        before = play
        play, step = worlds.play_on(play, action)

        here = ~step.idle & (done < horizon)
        place = done[here], rows[here]
        reward[place], ended[place], truncated[place] = step.reward[here], step.ended[here], step.truncated[here]
        if (step.truncated & here).any():
            final = before.replace(envs=Seen(obs=worlds.per_agent(step.final_obs)))
            rest[place] = np.asarray(final_values(env, policy, final, step.truncated & here))[here]
        done += ~step.idle
    # the values of the next observations: this choice is not played
    _, _, made = choose_and_keep(env, policy, play, made, np.where(worlds.pending, np.int32(horizon + 1), done))
    next_values, value = made.value[-1], made.value[:-1]
    played = made.replace(value=value, reward=reward, ended=ended, truncated=truncated, rest=rest)
    return play, (played, next_values), worlds.episodes.log()


@functools.partial(jax.jit, static_argnames="horizon")
def nothing_made(env: HostEnv, policy: Policy, play: Play, horizon: int) -> Rollout:
    """Zeros for what the policy sees and does in `horizon` steps, and for one value more."""
    choice = jax.eval_shape(functools.partial(_chosen, env), policy, play)[1]

    def zeros(x: Any, length: int) -> Array:
        return jnp.zeros((length, *x.shape), x.dtype)

    kept = _kept(play, choice)
    return jax.tree.map(lambda x: zeros(x, horizon), kept).replace(value=zeros(kept.value, horizon + 1))


def _chosen(env: HostEnv, policy: Policy, play: Play, deterministic: bool = False) -> tuple[Play, Choice]:
    return act(env.batch(len(play.streams) // env.num_agents), policy, play, deterministic)


def _kept(play: Play, choice: Choice) -> Rollout:
    """What of a step is known before the environments make it."""
    nothing: Any = None
    of_choice = (choice.mask, choice.action, choice.log_prob, choice.value)
    return Rollout(play.obs, play.reset, *of_choice, nothing, nothing)


@functools.partial(jax.jit, static_argnames="deterministic")
def choose(env: HostEnv, policy: Policy, play: Play, deterministic: bool) -> tuple[Play, Array]:
    """The play with memory and streams after the choice, and the actions (rows, ...)."""
    play, choice = _chosen(env, policy, play, deterministic)
    return play, choice.action


@functools.partial(jax.jit, donate_argnames="made")
def choose_and_keep(env: HostEnv, policy: Policy, play: Play, made: Rollout, at: Any) -> tuple[Play, Array, Rollout]:
    """The same; what was seen and done is kept as step `at`, int32 (rows,), of each row, if there is such a step."""
    after, choice = _chosen(env, policy, play)
    rows = jnp.arange(len(at), dtype=jnp.int32)
    made = jax.tree.map(lambda buffer, x: buffer.at[at, rows].set(x, mode="drop"), made, _kept(play, choice))
    return after, choice.action, made


@jax.jit
def final_values(env: HostEnv, policy: Policy, play: Play, truncated: Any) -> Array:
    """`truncated_values`, of final observations that are in the place of states."""
    return truncated_values(env.batch(len(truncated) // env.num_agents), policy, play, truncated)
