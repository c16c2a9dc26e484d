"""from_jumanji: environments of Jumanji."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.adapters.adapted import NO_LIMIT, Adapted, Held, Masked, View, library, parts_of, their_rules
from jaxpuffer.adapters.flatten import Part, flat_action, flat_observation
from jaxpuffer.devices import in_32_bits
from jaxpuffer.env import static


class Jumanji(Adapted):
    """An environment of Jumanji."""

    joint: tuple[int, ...] | None = static(default=None, help="choices of the action that are one choice of ours")

    how_to_render: ClassVar[str] = ": env.theirs.render(state.inner)"

    def begin(self, key: Array) -> tuple[Any, View]:
        inner, step = self.theirs.reset(key)
        return inner, View(step.observation, self._mask(step.observation))

    def advance(self, inner: Any, action: Any, key: Array) -> tuple[Any, View]:
        if self.joint is not None:
            spec = self.theirs.action_spec
            action = jnp.stack(jnp.unravel_index(action, self.joint)).astype(spec.dtype).reshape(spec.shape)
        inner, step = self.theirs.step(inner, action)
        over, stopped = step.last(), step.discount > 0
        return inner, View(step.observation, self._mask(step.observation), step.reward, over & ~stopped, over & stopped)

    def _mask(self, observation: Any) -> Array | None:
        return None


class MaskedJumanji(Masked, Jumanji):
    """An environment of Jumanji with illegal actions."""

    def _mask(self, observation: Any) -> Array | None:
        return observation.action_mask.reshape(-1)


@in_32_bits
def from_jumanji(env: Any, max_steps: int = NO_LIMIT) -> Jumanji:
    """An environment of Jumanji as an `Env` that `train` takes.

    An episode is over at Jumanji's last step: truncated if its discount is above 0, otherwise terminated. Many of its
    environments, Snake for one, end a time limit with a discount of 0, and so it is `terminated` here too. Their
    observations have all fields, `action_mask` included, which is our mask as well. Where the mask is of joint
    choices, as in Tetris and Minesweeper, the action is one choice among all of them. Randomness within an episode
    comes from the key in Jumanji's state.

    Args:
        env: Jumanji's environment, or its name, such as "Snake-v1".
        max_steps: steps before truncation, besides Jumanji's own limit.

    Raises:
        ImportError: Jumanji is not installed.
        TypeError: `env` is not an environment of Jumanji, has one reward for each agent, or a mask of another form.
        ValueError: its actions or observations do not fit our spaces.
    """
    if isinstance(env, str):
        env = library("jumanji", "jumanji").make(env)
    if not all(hasattr(env, name) for name in ("reset", "step", "observation_spec", "action_spec", "reward_spec")):
        raise TypeError(f"env is a {type(env).__name__}; it must be an environment of Jumanji, or its name")
    if env.reward_spec.shape != ():
        raise TypeError(
            f"env has rewards of the shape {env.reward_spec.shape}; it must have one: "
            "jumanji.wrappers.MultiToSingleWrapper adds them up"
        )
    spec = env.action_spec
    action: Any = _action_part(spec)
    parts = parts_of(lambda key: env.reset(key)[1].observation, lambda path: _bounds_at(env.observation_spec, path))
    made: Callable[..., Jumanji] = Jumanji
    joint = None
    mask = _mask_shape(env)
    if mask is not None and action.is_whole:
        made = MaskedJumanji
        counts = tuple(int(n) for n in np.ravel(action.bounds()[1] - action.bounds()[0] + 1))
        if mask == counts == (2, 2):
            raise TypeError("env has a mask of 2 by 2 for two choices of 2, which can be read in two ways")
        if mask == counts and len(counts) > 1:
            joint, action = counts, Part((), np.dtype(np.int32), 0, int(np.prod(counts)) - 1)
        elif int(np.prod(mask)) != sum(counts):
            raise TypeError(
                f"env has a mask of the shape {mask} for choices of {counts}; it must have one entry for each"
            )
    return made(
        held=Held(env),
        observation=flat_observation(parts),
        action=flat_action(action),
        max_steps=max_steps,
        joint=joint,
    )


def _action_part(spec: Any) -> Part:
    if not hasattr(spec, "minimum"):
        raise TypeError(f"the action spec is {spec!r}; it must have bounds")
    return Part(tuple(spec.shape), spec.dtype, np.asarray(spec.minimum), np.asarray(spec.maximum))


def _bounds_at(spec: Any, path: Any) -> Any:
    """The bounds that a spec of Jumanji gives for the array at a path, or None."""
    try:
        for entry in path:
            spec = spec[next(getattr(entry, a) for a in ("name", "key", "idx") if hasattr(entry, a))]
    except (AttributeError, KeyError, TypeError):
        return None
    return (np.asarray(spec.minimum), np.asarray(spec.maximum)) if hasattr(spec, "minimum") else None


def _mask_shape(env: Any) -> tuple[int, ...] | None:
    with their_rules():
        observation = jax.eval_shape(env.reset, jax.eval_shape(jax.random.PRNGKey, 0))[1].observation
    mask = getattr(observation, "action_mask", None)
    return None if mask is None else tuple(mask.shape)
