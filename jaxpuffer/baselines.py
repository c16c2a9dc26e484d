"""Trained agents that ship with the environments.

    envs_jax/baselines/NAME.npz     the weights, float16
    envs_jax/baselines/NAME.json    the agent's score, and the environment's speed

`python -m benchmarks.baselines NAME` trains one again.
"""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxpuffer.config import tuned_config
from jaxpuffer.env import has_action_mask
from jaxpuffer.normalizer import Normalizer, PartNormalizers
from jaxpuffer.policy import Policy, make_module
from jaxpuffer.ppo import init
from jaxpuffer.registry import env_class, name_of
from jaxpuffer.spaces import Discrete, MultiDiscrete, named_parts


def load_baseline(env: Any) -> Policy:
    """The trained agent that ships with a registered environment, for `evaluate` and `animate`.

    Args:
        env: an environment of either backend, or its name.

    Raises:
        ValueError: the environment has no trained agent.
    """
    name = env if isinstance(env, str) else name_of(env)
    env = env_class(env)() if isinstance(env, str) else env
    file = _folder() / f"{name}.npz"
    if name is None or not file.is_file():
        raise ValueError(f"there is no trained agent for {name or env}")
    config = tuned_config(env)
    with file.open("rb") as opened, np.load(opened) as arrays:
        saved = unflatten_dict({path: jnp.float32(array) for path, array in arrays.items()}, sep="/")
    expected = jax.eval_shape(init, env, jax.random.key(0), config).params
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, saved["params"]):
        raise ValueError(f"the trained agent of {name} does not fit {env}: it was trained with the default parameters")
    normalizer: Any = None
    if "normalizer" in saved:
        normalizer = Normalizer(**saved["normalizer"])
    elif "normalizers" in saved:
        own = (saved["normalizers"].get(part) for part, _ in named_parts(env.observation_space))
        normalizer = PartNormalizers(tuple(None if numbers is None else Normalizer(**numbers) for numbers in own))
    return Policy(saved["params"], make_module(env, config), normalizer)


def save_baseline(env: Any, policy: Policy, file: str | Path) -> None:
    """Write an agent's weights as float16, and a normaliser's numbers as they are."""

    def numbers(normalizer: Normalizer) -> dict[str, Any]:
        return {key: getattr(normalizer, key) for key in ("count", "mean", "variance")}

    tree: dict[str, Any] = {"params": jax.tree.map(np.float16, policy.params)}
    if isinstance(policy.normalizer, PartNormalizers):
        parts = zip(named_parts(env.observation_space), policy.normalizer.parts, strict=True)
        tree["normalizers"] = {part: numbers(own) for (part, _), own in parts if own is not None}
    elif policy.normalizer is not None:
        tree["normalizer"] = numbers(policy.normalizer)
    arrays: dict[str, Any] = {path: np.asarray(x) for path, x in flatten_dict(tree, sep="/").items()}
    np.savez_compressed(file, **arrays)


def baseline_record(name: str) -> dict[str, Any] | None:
    """The measurements of the agent and the environment; None if no agent ships with it."""
    file = _folder() / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def figures_in_words(record: dict[str, Any]) -> list[str]:
    """Scores of an untrained and of the shipped agent, million steps per second in C and in JAX, for tables."""
    scores = [record[which]["mean"] for which in ("untrained_score", "score")]
    speeds = [record["steps_per_second"][backend] / 1e6 for backend in ("c", "jax")]
    return [f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}" for x in scores] + [f"{x:.1f}" for x in speeds]


def spaces_in_words(env: Any) -> tuple[str, str]:
    """Observation and action of an environment in a few words, for tables."""
    seen, done = env.observation_space, env.action_space
    words = {Discrete: lambda: f"Discrete({done.n})", MultiDiscrete: lambda: f"MultiDiscrete{done.nvec}"}
    action = words.get(type(done), lambda: f"{type(done).__name__} {done.shape}")()
    parts = ", ".join(f"{name} {part.dtype} {part.shape}".strip() for name, part in named_parts(seen))
    return parts, action + (", masked" if has_action_mask(env) else "")


def _folder() -> Any:
    return importlib.resources.files("envs_jax") / "baselines"
