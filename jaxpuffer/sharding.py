"""Training on several devices: one mesh axis, `data`, over environments.

    mesh   = data_mesh()                                # all devices of all processes
    result = train_on(env, key, config, mesh=mesh)
    result = fit(env, key, config, mesh=mesh)           # from the host, with progress and saves

Devices are accelerators, or a CPU's cores after `split_cpu()`.

Every device steps its own environments and computes the gradients of its part of each
minibatch; only gradients and means cross between devices. The result is that of one
device up to the order of summation, except that prioritised segments are drawn on each
device among its own.
"""

import functools
import os
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxpuffer import rng
from jaxpuffer.config import PPOConfig, complete
from jaxpuffer.devices import available_cores, computing_on, in_32_bits, on_cpu
from jaxpuffer.policy import checked_module
from jaxpuffer.ppo import Result, TrainState, fresh_streams, start, update, with_nan, without_nan
from jaxpuffer.registry import as_env

AXIS = "data"


def data_mesh(devices: Any = None) -> Mesh:
    """A mesh with the one axis `data` over the devices, or over all devices if None.

    Raises:
        TypeError: `devices` is not a list of at least one JAX device.
    """
    chosen = np.array(jax.devices() if devices is None else devices)
    if chosen.ndim != 1 or not chosen.size or not all(isinstance(x, jax.Device) for x in chosen):
        raise TypeError(f"devices is {devices!r:.100}; it must be a list of JAX devices, such as jax.devices()")
    return Mesh(chosen, (AXIS,))


def split_cpu() -> None:
    """Turn every core that this process may use into a JAX device, if JAX runs on a CPU.

    Call it before anything else of JAX or jaxpuffer. With minibatches of some thousand
    steps, training on one device for each core is faster than on one for all of them.

    Raises:
        RuntimeError: JAX has started with fewer devices.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return  # already chosen
    cores = available_cores()
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError as error:
        devices = jax.local_device_count()
        if on_cpu() and devices < cores:
            raise RuntimeError(
                f"split_cpu comes too late: JAX has started with {devices} devices for {cores} cores; "
                "call it before anything makes arrays, environments or configurations"
            ) from error


def take_devices(count: int) -> Mesh | None:
    """A mesh for `fit` over the first `count` devices of this process, None for a single one.

    Raises:
        ValueError: there are fewer devices.
    """
    devices = jax.local_devices()
    if not 1 <= count <= len(devices):
        kind = "core" if devices[0].platform == "cpu" else devices[0].platform
        raise ValueError(f"devices is {count}; it must be from 1 to {len(devices)}, one for each {kind}")
    return None if count == 1 else data_mesh(devices[:count])


@in_32_bits
def train_on(env: Any, key: Array, config: PPOConfig | None = None, module: Any = None, *, mesh: Mesh) -> Result:
    """`train` on the devices of a mesh; on several processes, each calls this with the same arguments.

    `config` is for all devices together: `num_envs` environments in total.

    Raises:
        ValueError: the mesh has other axes, or environments and minibatches cannot be split evenly.
        TypeError: `mesh` is not a Mesh.
    """
    env, key = as_env(env), rng.check_key(key)
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh is {mesh!r}; it must be a Mesh, as data_mesh() gives")
    config = complete(env, config)
    module = checked_module(env, config, module)
    local_config(config, mesh)
    with computing_on(mesh.devices.flat[0]):
        result = _train_on(env, key, config, module, mesh)
    return result.replace(metrics=with_nan(result.metrics))


@functools.partial(jax.jit, static_argnames=("mesh", "module"))
def _train_on(env: Any, key: Array, config: PPOConfig, module: Any, mesh: Mesh) -> Result:
    def run(env: Any, key: Array, config: PPOConfig) -> tuple[TrainState, dict[str, Array]]:
        def step(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
            state, metrics = update(env, state, local, module, axis=AXIS)
            return state, without_nan(metrics)

        local = local_config(config, mesh)
        state = lax.optimization_barrier(init_shard(env, key, config, module, mesh))
        return lax.scan(step, state, length=config.num_updates)

    specs = specs_of_init(env, key, config, module)
    state, metrics = each_device(run, mesh, (P(), P(), P()), (specs, P()))(env, key, config)
    return Result(state.policy(module), state, metrics, config, env)


@functools.partial(jax.jit, static_argnames=("mesh", "module"))
def init_on(env: Any, key: Array, config: PPOConfig, module: Any, mesh: Mesh) -> TrainState:
    """`init` on the devices of a mesh."""

    def run(env: Any, key: Array, config: PPOConfig) -> TrainState:
        return init_shard(env, key, config, module, mesh)

    specs = specs_of_init(env, key, config, module)
    return each_device(run, mesh, (P(), P(), P()), specs)(env, key, config)


def put_on(mesh: Mesh, state: TrainState) -> TrainState:
    """A state from one device, its rows in the order of `mesh`, split over the devices of the mesh."""
    return jax.device_put(state, jax.tree.map(lambda spec: NamedSharding(mesh, spec), state_specs(state)))


def each_device(function: Any, mesh: Mesh, in_specs: Any, out_specs: Any) -> Any:
    """`function` on every device's part of its arguments."""
    # the FFI call of the C backend does not declare how its results vary over the mesh
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def is_of_several_processes(mesh: Mesh | None) -> bool:
    """Whether devices of a mesh belong to other processes than this one."""
    return mesh is not None and any(device.process_index != jax.process_index() for device in mesh.devices.flat)


def of_all_processes(numbers: list[int]) -> np.ndarray:
    """The numbers of every process, int64 (processes, n); all of them must call this, the same number of times."""
    return multihost_utils.process_allgather(np.array(numbers, np.int64)).reshape(jax.process_count(), -1)


def local_config(config: PPOConfig, mesh: Mesh) -> PPOConfig:
    """The config of one device's part.

    Raises:
        ValueError: as in `train_on`.
    """
    if mesh.axis_names != (AXIS,):
        raise ValueError(f"mesh has the axes {mesh.axis_names}; it must have the one axis {AXIS!r} (see data_mesh)")
    devices = mesh.size
    worlds = config.minibatch_size // (config.horizon * config.num_agents)
    if config.num_envs % devices or worlds % devices:
        raise ValueError(
            f"PPOConfig.num_envs is {config.num_envs} and a minibatch holds {worlds} of them; "
            f"both must be multiples of the number of devices, {devices}"
        )
    each = 2 * config.league.groups * devices
    if each and config.league_games % each:
        raise ValueError(
            f"PPOConfig.league has {config.league_games} games against opponents; it must be a multiple of {each}, two "
            "for each opponent on each device: change league.share"
        )
    # total_steps is per device too, so that schedules run as they do on one device
    return config.replace(
        num_envs=config.num_envs // devices,
        minibatch_size=config.minibatch_size // devices,
        total_steps=config.num_updates * config.batch_size // devices,
    )


def init_shard(env: Any, key: Array, config: PPOConfig, module: Any, mesh: Mesh | None) -> TrainState:
    """One device's part of the state before the first update; all of it if `mesh` is None.

    Every device holds its part of every minibatch, so that minibatches are made of the
    same environments on any number of devices.
    """
    key_params, key_envs, key_streams = jax.random.split(key, 3)
    env_streams, streams = fresh_streams(config, key_envs, key_streams)
    local = config
    if mesh is not None:
        devices, device = mesh.size, lax.axis_index(AXIS)
        local = local_config(config, mesh)

        def part(x: Array) -> Array:
            x = x.reshape(config.num_minibatches, devices, -1, 2)
            return lax.dynamic_index_in_dim(x, device, 1, keepdims=False).reshape(-1, 2)

        env_streams, streams = part(env_streams), part(streams)
    return start(env, module, local, key_params, env_streams, streams)


def specs_of_init(env: Any, key: Array, config: PPOConfig, module: Any) -> TrainState:
    """`state_specs` of the state before the first update."""
    return state_specs(jax.eval_shape(functools.partial(init_shard, module=module, mesh=None), env, key, config))


def state_specs(state: TrainState) -> TrainState:
    """How a state is placed on the mesh: arrays of rows or environments are split, the rest is on every device."""

    whole = jax.tree.map(lambda _: P(), state)
    return whole.replace(play=jax.tree.map(lambda _: P(AXIS), state.play))
