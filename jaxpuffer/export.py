"""Hand a trained policy over to other programs.

    safetensors   FILE.safetensors         named tensors, with a description in the file's metadata
    flat          FILE.bin and FILE.json   the same tensors as numbers, one after the other, and the description
    stablehlo     FILE.stablehlo           one step of the policy as a program with the weights, by jax.export
    onnx          FILE.onnx                the same step, by jax2onnx

docs/export.md says what each holds and reads one with NumPy alone.
"""

import importlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax import Array

from jaxpuffer.checkpoint import twin_of
from jaxpuffer.devices import in_32_bits
from jaxpuffer.distributions import Categorical, Distribution, Joint, Normal
from jaxpuffer.env import has_action_mask
from jaxpuffer.evaluate import all_finite, as_policy, check_policy
from jaxpuffer.host import HostEnv
from jaxpuffer.networks import ActorCritic, action_units
from jaxpuffer.normalizer import LIMIT, PartNormalizers
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import Result
from jaxpuffer.registry import as_env, name_of
from jaxpuffer.spaces import Box, Composite, Discrete, Mixed, MultiDiscrete, ObservationSpace, Space, mask_sizes, shapes

# and the suffix of each, and the package that it needs
FORMATS = {"safetensors": ".safetensors", "flat": ".bin", "stablehlo": ".stablehlo", "onnx": ".onnx"}
PACKAGES = {"safetensors": "safetensors.numpy", "stablehlo": "flatbuffers", "onnx": "jax2onnx"}
VERSION = 1  # of the description; larger when a reader of an earlier one would misread a later one
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that a StableHLO program is lowered for


@in_32_bits
def export(
    policy: Policy | Result, path: str | os.PathLike[str], env: Any = None, *, format: str | None = None
) -> None:
    """Write a policy to a file that other programs read.

    Args:
        policy: the result of a single run, or its policy.
        path: the file; an existing one is replaced.
        env: the environment that the policy plays, of either backend, or a registered name. A result has its own, so
            it is needed only for a policy.
        format: "safetensors", "flat", "stablehlo" or "onnx"; None: what the suffix of `path` says, .safetensors, .bin,
            .stablehlo or .onnx.

    Raises:
        ValueError: the format or the suffix is unknown, the policy's parameters are not finite, or jax2onnx made
            a program that computes something else.
        TypeError: `env` is missing, the policy was made for other spaces or holds several runs, or an argument is of a
            wrong type.
        FileNotFoundError: the folder of `path` does not exist.
        NotImplementedError: the network cannot become an ONNX program.
        ImportError: a package is missing: safetensors, flatbuffers for StableHLO, or jax2onnx.
    """
    chosen, path = check_export(path, format), Path(path)
    if env is None:
        if not isinstance(policy, Result):
            raise TypeError("env is None; a policy does not know its environment: export(policy, path, env)")
        env = policy.env
    env, policy = as_env(env), as_policy(policy)
    check_policy(env, policy)
    if not all_finite(policy.params):
        raise ValueError("the policy has parameters that are NaN or infinite; training failed")
    match chosen:
        case "safetensors":
            save = package(PACKAGES[chosen]).save  # save_file would make a file that only its owner may read
            path.write_bytes(save(tensors(env, policy), {"jaxpuffer": json.dumps(description(env, policy))}))
        case "flat":
            _write_flat(tensors(env, policy), description(env, policy), path)
        case "stablehlo":
            path.write_bytes(stablehlo(env, policy).serialize())
        case _:
            path.write_bytes(onnx(env, policy).SerializeToString())


def check_export(path: str | os.PathLike[str], format: str | None = None) -> str:
    """The format of a file to write, which the suffix says if `format` is None.

    Raises:
        ValueError: the format or the suffix is unknown.
        FileNotFoundError: the file's folder does not exist.
        ImportError: the package for it is missing.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    of_suffix = {suffix: name for name, suffix in FORMATS.items()}
    if format is None and path.suffix.lower() not in of_suffix:
        raise ValueError(f"path is {str(path)!r}; it must end in {', '.join(of_suffix)}, or format must be given")
    if format == "flat" and path.suffix.lower() == ".json":
        raise ValueError(f"path is {str(path)!r}; the description of a flat file gets this suffix, so it needs another")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path is {str(path)!r}; there is no folder {path.parent}")
    chosen = format or of_suffix[path.suffix.lower()]
    if chosen in PACKAGES:
        package(PACKAGES[chosen])
    return chosen


def package(name: str) -> Any:
    """A module of an optional package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        top = name.partition(".")[0]
        raise ImportError(f"this export needs {top}: pip install {top}") from None


def tensors(env: Any, policy: Policy) -> dict[str, np.ndarray]:
    """All numbers that a reader needs, float32 by name.

    The network's parameters have their Flax names, joined by dots. Beside them:

        observation.mean, observation.scale     what the network sees is clip((obs - mean) * scale, -10, 10)
        action.middle, action.half              mean = middle + half * output, std = half * exp(log_std), for numbers
        value.mean, value.deviation             value = mean + deviation * output
    """
    named = {".".join(path): x for path, x in flatten_dict(policy.params).items()}
    if policy.normalizer is not None:
        named |= _normalizers(env, policy)
    units = [action_units(part) for part in _parts(env.action_space) if isinstance(part, Box)]
    if units and isinstance(policy.module, ActorCritic):
        middle, half = zip(*units, strict=True)
        named |= {"action.middle": np.concatenate(middle), "action.half": np.concatenate(half)}
    if policy.returns is not None:
        named |= {"value.mean": policy.returns.mean, "value.deviation": jnp.sqrt(policy.returns.variance)}
    return {name: np.ascontiguousarray(x, np.float32) for name, x in named.items()}


def description(env: Any, policy: Policy) -> dict[str, Any]:
    """What the tensors are for, as JSON values: the environment, its spaces, the network and the normaliser."""
    module, twin = policy.module, twin_of(env)
    network: dict[str, Any] = {"module": type(module).__name__}
    if isinstance(module, ActorCritic):
        fields = ("policy", "encoder", "hidden", "layers", "activation", "separate_critic")
        network = {name: getattr(module, name) for name in fields} | {"dtype": jnp.dtype(module.dtype).name}
    return {
        "format": "jaxpuffer policy",
        "version": VERSION,
        "environment": name_of(env),
        "parameters": twin.to_dict(),
        "agents": env.num_agents,
        "observation_space": space_as_json(env.observation_space),
        "action_space": space_as_json(env.action_space),
        "masked": is_masked(env),
        "network": network,
        "observation_limit": None if policy.normalizer is None else LIMIT,
    }


def _normalizers(env: Any, policy: Policy) -> dict[str, Array]:
    """`observation.mean` and `observation.scale`, of several parts `observation.NAME.mean` and so on."""
    if not isinstance(policy.normalizer, PartNormalizers):
        return {"observation.mean": policy.normalizer.mean, "observation.scale": policy.normalizer.scale}
    found: dict[str, Array] = {}
    for (name, _), own in zip(env.observation_space.parts, policy.normalizer.parts, strict=True):
        if own is not None:
            found |= {f"observation.{name}.mean": own.mean, f"observation.{name}.scale": own.scale}
    return found


def space_as_json(space: ObservationSpace) -> dict[str, Any]:
    """A space as JSON values: its kind, shape, dtype, and `n`, `nvec`, `low` and `high`, or `parts`.

    A Composite has its kind and, as `parts`, its spaces by name.

    A bound is a number, or nested lists with one for each entry; null stands for infinity.
    """
    if isinstance(space, Composite):
        return {"kind": "Composite", "parts": {name: space_as_json(part) for name, part in space.parts}}
    kind = {"kind": type(space).__name__, "shape": list(space.shape), "dtype": space.dtype.name}
    match space:
        case Discrete():
            return kind | {"n": space.n}
        case MultiDiscrete():
            return kind | {"nvec": list(space.nvec)}
        case Box():
            return kind | {"low": _finite_or_none(space.low), "high": _finite_or_none(space.high)}
    return kind | {"parts": [space_as_json(part) for part in space.parts]}


def stablehlo(env: Any, policy: Policy) -> Any:
    """One step of the policy as a `jax.export.Exported`, for any number of agents, with the weights inside it.

    It takes (carry, obs (rows, ...), reset bool (rows,), mask bool (rows, n) or None) and returns (carry, action,
    value float32 (rows,)), as a policy does (`jaxpuffer.networks`). `action` is a dict of `action_parameters`.
    """

    def step(carry: Any, obs: Array, reset: Array, mask: Array | None) -> tuple[Any, dict[str, Array], Array]:
        carry, distribution, value = policy(carry, obs, reset, mask)
        return carry, action_parameters(distribution), value

    return jax.export.export(jax.jit(step), platforms=PLATFORMS)(*_arguments(env, policy).values())


def onnx(env: Any, policy: Policy) -> Any:
    """The same step as an `onnx.ModelProto`.

    Its inputs are `obs`, `reset`, `mask` if some actions can be illegal, and `carry`, or `carry_0` and `carry_1`, if
    the policy has a memory. Its outputs are `value` and, as far as there are such, `logits`, `mean`, `std` and
    `next_carry`.

    Raises:
        NotImplementedError: jax2onnx cannot convert the network, or ONNX Runtime cannot run it, as in bfloat16.
        ValueError: on random inputs it gives other outputs than the policy.
    """
    arguments = _arguments(env, policy)
    leaves, structure = jax.tree.flatten(arguments)

    def named_outputs(*leaves: Array) -> dict[str, Array]:
        given = jax.tree.unflatten(structure, leaves)
        carry, distribution, value = policy(given["carry"], given["obs"], given["reset"], given["mask"])
        return _named({"next_carry": carry, "value": value} | action_parameters(distribution))

    converter, runtime = package(PACKAGES["onnx"]), package("onnxruntime")  # which jax2onnx needs itself
    outputs = list(jax.eval_shape(named_outputs, *leaves))
    logger = logging.getLogger("onnx_ir.serde")  # it warns of shapes that it does not note down
    level = logger.level
    logger.setLevel(logging.ERROR)
    quiet = runtime.SessionOptions()
    quiet.log_severity_level = 3  # errors
    try:
        model = converter.to_onnx(
            lambda *leaves: tuple(named_outputs(*leaves).values()),
            leaves,
            input_names=list(_named(arguments)),
            output_names=outputs,
        )
        session = runtime.InferenceSession(model.SerializeToString(), quiet)
    except Exception as error:  # of many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise NotImplementedError(f"this policy cannot become an ONNX program ({reason}); use stablehlo") from error
    finally:
        logger.setLevel(level)

    # the converter is not ours: compare what it made
    draw = np.random.default_rng(0)
    observed = _named({"obs": env.observation_space.sample(jax.random.key(0), (4,))})
    drawn = _named(arguments) | observed
    for name, x in drawn.items():
        if name not in observed:
            shape = (4, *x.shape[1:])
            drawn[name] = draw.random(shape) < 0.7 if x.dtype == jnp.bool_ else np.float32(draw.normal(size=shape))
    found = session.run(outputs, {name: np.asarray(x) for name, x in drawn.items()})
    for (name, wanted), got in zip(named_outputs(*map(jnp.asarray, drawn.values())).items(), found, strict=True):
        if not np.allclose(got, wanted, rtol=1e-3, atol=1e-3):
            apart = np.abs(got - wanted).max()
            raise ValueError(f"the ONNX program's {name} differs by {apart:g} from the policy's; use another format")
    return model


def _arguments(env: Any, policy: Policy) -> dict[str, Any]:
    """Shapes and dtypes of what a step takes, for a symbolic number of rows."""
    (rows,) = jax.export.symbolic_shape("rows")
    return {
        "carry": jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), policy.module.initialize_carry(1)
        ),
        "obs": shapes(env.observation_space, (rows,)),
        "reset": jax.ShapeDtypeStruct((rows,), jnp.bool_),
        "mask": jax.ShapeDtypeStruct((rows, sum(mask_sizes(env.action_space))), jnp.bool_) if is_masked(env) else None,
    }


def is_masked(env: Any) -> bool:
    """Whether some actions of an environment of any backend can be illegal."""
    return env.masked if isinstance(env, HostEnv) else has_action_mask(twin_of(env))


def _named(tree: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a tree by their paths, such as carry_0."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="_"): x for path, x in paths}


def action_parameters(distribution: Distribution) -> dict[str, Array]:
    """The numbers of a distribution: `logits` (..., n) of its choices in order, `mean` (..., m) and `std` (m,)."""
    parts = distribution.parts if isinstance(distribution, Joint) else (distribution,)
    found: dict[str, list[Array]] = {}
    for part in parts:
        if isinstance(part, Categorical):
            found.setdefault("logits", []).append(part.logits)
        elif isinstance(part, Normal):
            found.setdefault("mean", []).append(part.mean)
            found.setdefault("std", []).append(jnp.exp(part.log_std))
        else:
            raise TypeError(f"the policy's distribution is a {type(part).__name__}; it must be Categorical or Normal")
    return {name: jnp.concatenate(each, -1) for name, each in found.items()}


def _write_flat(named: dict[str, np.ndarray], header: dict[str, Any], path: Path) -> None:
    listed, offset = [], 0
    for name, x in named.items():
        listed.append({"name": name, "shape": list(x.shape), "offset": offset})
        offset += x.size
    path.write_bytes(b"".join(x.astype("<f4").tobytes() for x in named.values()))
    header |= {"numbers": offset, "tensors": listed}
    path.with_suffix(".json").write_text(json.dumps(header, indent=1, allow_nan=False) + "\n")


def _parts(space: Space) -> tuple[Any, ...]:
    return space.parts if isinstance(space, Mixed) else (space,)


def _finite_or_none(bound: Any) -> Any:
    if isinstance(bound, tuple | list):
        return [_finite_or_none(x) for x in bound]
    return bound if np.isfinite(bound) else None
