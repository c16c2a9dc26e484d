"""Population: many training runs, its members, side by side in one compiled program.

    population = Population(env, config, size=16)
    slot = population.add(jax.random.key(0), config.replace(learning_rate=0.01))
    metrics = population.advance(20)[slot]     # 20 updates of every member
    population.policy(slot)
    population.remove(slot)                    # its slot is free for another member

Members differ in traced fields of the config, in traced parameters of the environment, in `total_steps` and in
their keys; whatever else differs needs a population of its own. Members come and go without compiling again, and a
later population of the same static fields, size and width uses the program of an earlier one.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer.config import PPOConfig, complete
from jaxpuffer.devices import computing_on, in_32_bits, on_cpu
from jaxpuffer.evaluate import check_count
from jaxpuffer.host import HostEnv
from jaxpuffer.memory import check_memory
from jaxpuffer.policy import Policy, checked_module
from jaxpuffer.ppo import TrainState, init, update, with_nan, without_nan
from jaxpuffer.pytree import PyTreeNode, param, parameter_fields
from jaxpuffer.registry import as_env
from jaxpuffer.rng import check_key
from jaxpuffer.trainer import MAX_CHUNK

LEARNED = ("params", "opt_state", "normalizer", "returns", "pace")  # what `exploit` copies of a TrainState


class MemberConfig(PPOConfig):
    """The config of a population's member: how long it trains is traced, and `total_steps` means nothing."""

    updates: int = param(default=1, minimum=1)

    @property
    def schedule_updates(self) -> Array:
        return jnp.float32(self.updates)


class Member(PyTreeNode):
    """What one member consists of; a population stacks them."""

    env: Any
    config: MemberConfig
    state: TrainState


def static_fields(env: Any, config: PPOConfig) -> Any:
    """What members of one population have in common: a hashable value, equal for those that fit together."""
    return jax.tree.structure((env, _member_config(config)))


def _member_config(config: PPOConfig) -> MemberConfig:
    fields = {field.name: getattr(config, field.name) for field, _ in parameter_fields(PPOConfig)}
    return MemberConfig(**fields | {"total_steps": 1}, updates=config.num_updates)


class Population:
    """Members that train side by side.

    Args:
        env: an environment of either backend; members may have other traced parameters.
        config: the config of which members may change `total_steps` and traced fields.
        size: the number of slots.
        module: your own Flax module in place of the config's network, as in `train`.
        width: members that train together under `vmap`; groups of so many train one after the other, so that
            fewer members take less time. None: one on a CPU, where `vmap` is faster
            for small batches alone, a quarter of `size` elsewhere.

    Raises:
        TypeError, ValueError: as `train`; or `size` or `width` is not an int of at least 1.
    """

    @in_32_bits
    def __init__(self, env: Any, config: PPOConfig, size: int, *, module: Any = None, width: int | None = None) -> None:
        for name, value in (("size", size), ("width", width)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; it must be an int of at least 1")
        env = as_env(env)
        if isinstance(env, HostEnv):
            raise TypeError(f"{env.name} is stepped by Python; a population is one program")
        config = complete(env, config)
        self.size, self.width = size, min(size, width or (1 if on_cpu() else math.ceil(size / 4)))
        check_memory(env, config.replace(num_envs=config.num_envs * size))
        self._fields = static_fields(env, config)
        self.env, self.module = env, checked_module(env, config, module)
        self._members: Any = None  # stacked, made with the first member, which says what dtypes and shapes are
        self._done: dict[int, int] = {}  # updates of each member so far
        self._updates: dict[int, int] = {}  # of each member at its end
        self._batch_size = config.batch_size

    @property
    def slots(self) -> list[int]:
        """The slots that have a member, in order."""
        return sorted(self._done)

    @in_32_bits
    def add(self, key: Array, config: PPOConfig, env: Any = None) -> int:
        """Begin a new member: its slot, the first free one.

        Args:
            key: the member's JAX key.
            config: its config.
            env: its environment, which may differ from the population's in traced parameters.

        Raises:
            ValueError: there is no free slot, or the config or the environment differs in static fields.
        """
        key = check_key(key)
        free = [slot for slot in range(self.size) if slot not in self._done]
        if not free:
            raise ValueError(f"the population has {self.size} members, and no free slot")
        member_env = self.env if env is None else as_env(env)
        config = complete(member_env, config)
        if static_fields(member_env, config) != self._fields:
            raise ValueError(
                "the member has other static fields than the population; it may change total_steps, "
                "traced fields of the config, and traced parameters of the environment"
            )
        slot, size = free[0], self.size
        with computing_on(key):
            own = _member_config(config)
            member = Member(member_env, own, _init(member_env, key, own, self.module))
            if self._members is None:
                self._members = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), member)
            self._members = _put(self._members, jnp.int32(slot), member)
        self._done[slot], self._updates[slot] = 0, config.num_updates
        return slot

    def updates_left(self, slot: int) -> int:
        """Updates of a member until its `total_steps`."""
        self._check(slot)
        return self._updates[slot] - self._done[slot]

    def agent_steps(self, slot: int) -> int:
        """Agent-steps of a member so far."""
        self._check(slot)
        return self._done[slot] * self._batch_size

    def updates_until(self, slot: int, share: float) -> int:
        """Updates of a member until it has trained for this share of its `total_steps`; 0 if it has."""
        self._check(slot)
        return max(0, math.ceil(share * self._updates[slot]) - self._done[slot])

    @in_32_bits
    def advance(self, count: int | None = None) -> dict[int, dict[str, np.ndarray]]:
        """Train every member for `count` updates, fewer if one ends before or at 256; None: as many as that.

        Returns:
            By slot the metrics of `ppo.update`, each (updates,) NumPy; `agent_steps` is int64 and exact.

        Raises:
            ValueError: there is no member, or one has ended; `remove` it first. Or `count` is not allowed.
            TypeError: `count` is not a whole number.
        """
        if count is not None:
            check_count("count", count)
        slots = self.slots
        if not slots:
            raise ValueError("the population has no members")
        ended = [slot for slot in slots if not self.updates_left(slot)]
        if ended:
            raise ValueError(f"the member in slot {ended[0]} has ended; remove it first")
        count = min(MAX_CHUNK, *(self.updates_left(slot) for slot in slots), *([] if count is None else [count]))
        rows = self._run(slots, count)
        metrics = {}
        for place, slot in enumerate(slots):
            own = with_nan({name: row[place, :count] for name, row in rows.items()})
            own["agent_steps"] = (self._done[slot] + 1 + np.arange(count, dtype=np.int64)) * self._batch_size
            self._done[slot] += count
            metrics[slot] = own
        return metrics

    def compile(self) -> None:
        """Advance by no update, so that the time of compiling is known separately."""
        self._run(self.slots, 0)

    def _run(self, slots: list[int], count: int) -> dict[str, np.ndarray]:
        groups = math.ceil(len(slots) / self.width)
        # what is left of the last group has the slot `size`, whose results are dropped
        table = np.full((math.ceil(self.size / self.width), self.width), self.size, np.int32)
        table.ravel()[: len(slots)] = slots
        operands = jnp.asarray(table), jnp.int32(groups), jnp.int32(count)
        self._members, rows = _advance(self._members, *operands, module=self.module)
        found = jax.device_get(rows)
        return {name: row.reshape(-1, MAX_CHUNK)[: len(slots)] for name, row in found.items()}

    @in_32_bits
    def policy(self, slot: int) -> Policy:
        """A member's policy now."""
        return self.state(slot).policy(self.module)

    @in_32_bits
    def params(self, slot: int) -> Any:
        """A member's parameters now."""
        self._check(slot)
        return _get(self._members.state.params, jnp.int32(slot))

    @in_32_bits
    def state(self, slot: int) -> TrainState:
        """A member's TrainState now."""
        self._check(slot)
        return _get(self._members, jnp.int32(slot)).state

    def remove(self, slot: int) -> None:
        """End a member; the others then train without it."""
        self._check(slot)
        del self._done[slot], self._updates[slot]

    @in_32_bits
    def exploit(self, slot: int, source: int, config: PPOConfig) -> None:
        """Go on in `slot` with what the member in `source` has learned, and with another config.

        The step of population-based training (Jaderberg et al., 2017, arXiv 1711.09846): parameters, state of the
        optimiser and normalisation are copied; environments and random streams stay the member's own.

        Raises:
            ValueError: there is no such member; the config has other static fields, or fewer steps than the member has
                trained for.
        """
        self._check(slot)
        self._check(source)
        target, other = (_get(self._members, jnp.int32(i)) for i in (slot, source))
        config = complete(target.env, config)
        if config.num_updates < self._done[slot]:
            raise ValueError(
                f"total_steps is {config.total_steps}; the member has trained for {self.agent_steps(slot)} already"
            )
        if static_fields(target.env, config) != self._fields:
            raise ValueError("the config has other static fields than the population")
        learned = {name: getattr(other.state, name) for name in LEARNED}
        member = target.replace(config=_member_config(config), state=target.state.replace(**learned))
        self._members = _put(self._members, jnp.int32(slot), member)
        self._updates[slot] = config.num_updates

    def _check(self, slot: int) -> None:
        if slot not in self._done:
            raise ValueError(f"slot is {slot!r}; there are members in {', '.join(map(str, self.slots)) or 'no slots'}")


_init = jax.jit(init, static_argnames="module")


@functools.partial(jax.jit, donate_argnames="members")
def _put(members: Any, slot: Array, member: Any) -> Any:
    return jax.tree.map(lambda x, own: x.at[slot].set(own), members, member)


@jax.jit
def _get(members: Any, slot: Array) -> Any:
    return jax.tree.map(lambda x: x[slot], members)


@functools.partial(jax.jit, static_argnames="module", donate_argnames="members")
def _advance(members: Any, table: Array, groups: Array, count: Array, module: Any) -> tuple[Any, dict[str, Array]]:
    """`count` updates of the members in the slots of the first `groups` rows of a table (groups, width).

    Returns the members and their metrics (groups, width, MAX_CHUNK), of which `count` are filled.
    """

    def one(member: Any) -> tuple[TrainState, dict[str, Array]]:
        state, metrics = update(member.env, member.state, member.config, module)
        return state, without_nan(metrics)

    width = table.shape[1]
    together = one if width == 1 else jax.vmap(one)

    def of_group(members: Any, slots: Array) -> Any:
        return jax.tree.map(lambda x: x[slots[0]] if width == 1 else x.at[slots].get(mode="clip"), members)

    def train_group(group: Array, carried: tuple[Any, dict[str, Array]]) -> tuple[Any, dict[str, Array]]:
        members, rows = carried
        slots = table[group]
        before = of_group(members, slots)

        def step(i: Array, carried: tuple[TrainState, dict[str, Array]]) -> tuple[TrainState, dict[str, Array]]:
            state, kept = carried
            state, metrics = together(before.replace(state=state))
            return state, jax.tree.map(lambda row, x: row.at[..., i].set(x), kept, metrics)

        nothing = jax.tree.map(lambda row: jnp.zeros(row.shape[2 if width == 1 else 1 :], row.dtype), rows)
        state, kept = lax.fori_loop(jnp.int32(0), count, step, (before.state, nothing))
        put = slots[0] if width == 1 else slots
        states = jax.tree.map(lambda x, own: x.at[put].set(own, mode="drop"), members.state, state)
        rows = jax.tree.map(lambda row, own: row.at[group].set(own.reshape(row.shape[1:])), rows, kept)
        return members.replace(state=states), rows

    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], members))[1]
    rows = {name: jnp.zeros((*table.shape, MAX_CHUNK), x.dtype) for name, x in shapes.items()}
    return lax.fori_loop(jnp.int32(0), groups, train_group, (members, rows))
