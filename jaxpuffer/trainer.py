"""What `fit` trains with: one device, the devices of a mesh, or the host that steps the environments.

trainer = make_trainer(env, key, config, module, mesh)
state   = trainer.start(saved)            # None: a new run
state, metrics = trainer.chunk(state, n)  # n updates
"""

import functools
import warnings
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxpuffer.config import PPOConfig
from jaxpuffer.host import HostEnv, Worlds, check_outside_jit
from jaxpuffer.host_training import begin_on_host, compile_on_host, init_on_host, updates_on_host
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import TrainState, init, update, without_nan
from jaxpuffer.sharding import (
    AXIS,
    each_device,
    init_on,
    is_of_several_processes,
    local_config,
    of_all_processes,
    put_on,
    state_specs,
)

MAX_CHUNK = 256  # updates of a chunk

_init = jax.jit(init, static_argnames="module")


@functools.partial(jax.jit, static_argnames=("module", "mesh"), donate_argnames="state")
def _chunk(
    env: Any, state: TrainState, config: PPOConfig, count: Array, module: Any, mesh: Mesh | None
) -> tuple[TrainState, dict[str, Array]]:
    """`count` updates: the state after them and metrics (MAX_CHUNK,), of which `count` are filled."""

    def chunk(env: Any, state: TrainState, config: PPOConfig, count: Array) -> tuple[TrainState, dict[str, Array]]:
        if mesh is not None:
            config = local_config(config, mesh)
        one = functools.partial(update, module=module, axis=None if mesh is None else AXIS)

        def step(i: Array, carried: tuple[TrainState, dict[str, Array]]) -> tuple[TrainState, dict[str, Array]]:
            state, rows = carried
            state, metrics = one(env, state, config)
            metrics = without_nan(metrics)
            return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, metrics)

        _, metrics = jax.eval_shape(one, env, state, config)
        rows = jax.tree.map(lambda x: jnp.zeros((MAX_CHUNK, *x.shape), x.dtype), metrics)
        return lax.fori_loop(jnp.int32(0), count, step, (state, rows))

    if mesh is not None:
        specs = state_specs(state)
        chunk = each_device(chunk, mesh, (P(), specs, P(), P()), (specs, P()))
    return chunk(env, state, config, count)


class Trainer:
    """Runs updates on one device, or on those of a mesh. How many is an operand, so that it compiles once."""

    def __init__(self, env: Any, key: Array, config: PPOConfig, module: Any, mesh: Mesh | None) -> None:
        self.env, self.key, self.config, self.module, self.mesh = env, key, config, module, mesh

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def start(self, saved: TrainState | None) -> TrainState:
        """The state to begin with: a new one, or the saved one on the trainer's devices."""
        if self.mesh is None:
            return saved or _init(self.env, self.key, self.config, self.module)
        local_config(self.config, self.mesh)  # checks it
        return put_on(self.mesh, saved) if saved else init_on(self.env, self.key, self.config, self.module, self.mesh)

    def compile(self, state: TrainState) -> TrainState:
        """A chunk of no updates, so that the time of compiling is known separately."""
        return jax.block_until_ready(self._chunk(state, 0)[0])

    def chunk(self, state: TrainState, count: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        """At most MAX_CHUNK updates: the state after them, in place of `state`, and metrics (count,), without NaN."""
        state, rows = self._chunk(state, count)
        return state, {name: row[:count] for name, row in jax.device_get(rows).items()}

    def _chunk(self, state: TrainState, count: int) -> tuple[TrainState, dict[str, Array]]:
        return _chunk(self.env, state, self.config, jnp.int32(count), self.module, self.mesh)

    def agreed(self, count: int, save: bool, stop: bool, signal: int) -> tuple[int, bool, bool, int]:
        """What all processes do next: the count and the save of the first one, an end if any wants to end."""
        if not is_of_several_processes(self.mesh):
            return count, save, stop, signal
        wishes = of_all_processes([count, save, stop, signal])
        return int(wishes[0, 0]), bool(wishes[0, 1]), bool(wishes[:, 2].any()), int(wishes[:, 3].max())

    def policy(self, state: TrainState) -> Policy:
        """The policy of a state, on one device."""
        # every device has the policy, and one is enough to play
        now = state.policy(self.module)
        return now if self.mesh is None else jax.tree.map(lambda x: x.addressable_data(0), now)


class HostTrainer(Trainer):
    """Runs updates on environments that Python steps; leaving its `with` block closes them."""

    def __init__(self, env: HostEnv, key: Array, config: PPOConfig, module: Any) -> None:
        super().__init__(env, key, config, module, None)
        check_outside_jit(env, key, config)

    def __exit__(self, *exception: Any) -> None:
        self.worlds.__exit__(*exception)

    def start(self, saved: TrainState | None) -> TrainState:
        if saved:
            warnings.warn(
                f"{self.env.name}: the environments' states cannot be saved, so the run goes on with new episodes; "
                "parameters, optimiser and normalisation go on exactly",
                RuntimeWarning,
                stacklevel=5,
            )
        state = saved or init_on_host(self.env, self.key, self.config, self.module)
        self.worlds = Worlds(self.env, self.config.num_envs)
        return begin_on_host(self.worlds, self.key, state)

    def compile(self, state: TrainState) -> TrainState:
        compile_on_host(self.worlds.env, state, self.config, self.module)
        return state

    def chunk(self, state: TrainState, count: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        return updates_on_host(self.worlds, state, self.config, self.module, count)


def make_trainer(env: Any, key: Array, config: PPOConfig, module: Any, mesh: Mesh | None) -> Trainer:
    """The trainer of an environment.

    Raises:
        ValueError: a host-stepped environment with a mesh.
    """
    if not isinstance(env, HostEnv):
        return Trainer(env, key, config, module, mesh)
    if mesh is not None:
        raise ValueError(f"{env.name} is stepped by Python and trains on one device; mesh must be None")
    return HostTrainer(env, key, config, module)
