"""from_brax and from_playground: environments of Brax and MuJoCo Playground."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.adapters.adapted import Adapted, Held, View, library, parts_of, their_rules
from jaxpuffer.adapters.flatten import Part, flat_action, flat_observation
from jaxpuffer.devices import in_32_bits

FOR_TRAINING = ("AutoResetWrapper", "BraxAutoResetWrapper", "EpisodeWrapper", "EvalWrapper", "VmapWrapper")


class Brax(Adapted):
    """An environment of Brax or MuJoCo Playground."""

    how_to_render: ClassVar[str] = ": env.theirs.render([state.inner.pipeline_state]), or .data in Playground"

    def begin(self, key: Array) -> tuple[Any, View]:
        inner = self.theirs.reset(key)
        return inner, View(inner.obs)

    def advance(self, inner: Any, action: Any, key: Array) -> tuple[Any, View]:
        inner = self.theirs.step(inner, action)
        return inner, View(inner.obs, None, inner.reward, jnp.asarray(inner.done) > 0.5)


@in_32_bits
def from_brax(env: Any, episode_length: int = 1000) -> Brax:
    """An environment of Brax as an `Env` that `train` takes.

    Brax's environments know no time limit: its EpisodeWrapper adds one. Here `terminated` is the environment's `done`,
    and `truncated` comes after `episode_length` steps, a parameter of ours named `max_steps`. Randomness within an
    episode is what the environment keeps in its state. The system's arrays are constants of the program.

    Args:
        env: Brax's environment without its wrappers for training, or its name, such as "inverted_pendulum".
        episode_length: steps before truncation.

    Raises:
        ImportError: Brax is not installed.
        TypeError: `env` is not an environment of Brax.
        ValueError: `env` has wrappers that reset it, end its episodes or batch it.
    """
    if isinstance(env, str):
        env = library("brax.envs", "brax").get_environment(env)
    return _wrap(env, episode_length, "Brax")


@in_32_bits
def from_playground(env: Any, episode_length: int | None = None) -> Brax:
    """An environment of MuJoCo Playground (MJX) as an `Env` that `train` takes; see `from_brax`.

    Physics must be MJX's in JAX, not MuJoCo Warp, whose states share arrays over the batch.

    Args:
        env: Playground's environment without its wrappers for training, or its name, such as "CartpoleBalance".
        episode_length: steps before truncation; default that of the environment's configuration.

    Raises:
        ImportError: MuJoCo Playground is not installed.
        TypeError: `env` is not an environment of Playground, or has no episode length and none is given.
        ValueError: `env` has wrappers that reset it, end its episodes or batch it; or its physics is MuJoCo Warp.
    """
    if isinstance(env, str):
        env = library("mujoco_playground", "playground").registry.load(env, config_overrides={"impl": "jax"})
    if episode_length is None:
        episode_length = getattr(getattr(env, "_config", None), "episode_length", None)
    if episode_length is None:
        raise TypeError("episode_length is None, and the environment's configuration has none; it must be an int")
    return _wrap(env, episode_length, "MuJoCo Playground")


def _wrap(env: Any, episode_length: int, library_name: str) -> Brax:
    if not all(hasattr(env, name) for name in ("reset", "step", "action_size", "unwrapped")):
        raise TypeError(f"env is a {type(env).__name__}; it must be an environment of {library_name}, or its name")
    outer = env
    while outer is not outer.unwrapped and hasattr(outer, "env"):
        if type(outer).__name__ in FOR_TRAINING:
            raise ValueError(f"env has a {type(outer).__name__}; give it without, as env.unwrapped")
        outer = outer.env
    keys = jax.ShapeDtypeStruct((7, *jax.eval_shape(jax.random.PRNGKey, 0).shape), np.uint32)
    with their_rules():
        states = jax.eval_shape(jax.vmap(env.reset), keys)
    for path, x in jax.tree_util.tree_flatten_with_path(states)[0]:
        if x.shape[:1] != (7,):
            raise ValueError(
                f"env has states with arrays that a batch shares, such as {jax.tree_util.keystr(path)}, as those of "
                "MuJoCo Warp are; load it with config_overrides={'impl': 'jax'}"
            )
    return Brax(
        held=Held(env),
        observation=flat_observation(parts_of(lambda key: env.reset(key).obs, lambda path: None)),
        action=flat_action(Part((env.action_size,), np.dtype(np.float32), -1.0, 1.0)),
        max_steps=episode_length,
    )
