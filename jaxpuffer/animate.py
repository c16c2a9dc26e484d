"""Watch an agent: one episode as a GIF, shown in a notebook or saved."""

import base64
import functools
import io
import os
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.devices import computing_on, in_32_bits
from jaxpuffer.evaluate import as_policy, check_deterministic, check_policy
from jaxpuffer.play import Play, act, begin, go_on, transition
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import Result
from jaxpuffer.registry import as_env


class Animation:
    """Pictures in sequence; shows itself in a notebook.

    Attributes:
        frames: uint8 (time, height, width, 3).
        fps: pictures per second.
    """

    def __init__(self, frames: np.ndarray, fps: float) -> None:
        self.frames = frames
        self.fps = fps

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a GIF that repeats without end.

        Raises:
            ImportError: Pillow is not installed.
        """
        with open(path, "wb") as file:
            file.write(self._gif)

    @functools.cached_property
    def _gif(self) -> bytes:
        image = pillow()
        first, *others = (image.fromarray(frame) for frame in self.frames)
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=1000 / self.fps, loop=0)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        return f'<img src="data:image/gif;base64,{base64.b64encode(self._gif).decode()}">'


@in_32_bits
def animate(
    env: Any,
    policy: Policy | Result,
    key: Array,
    *,
    steps: int = 1000,
    path: str | os.PathLike[str] | None = None,
    fps: float = 30,
    deterministic: bool = False,
) -> Animation:
    """Play one episode and take a picture of every step.

    A world of several agents is played until all of them end in the same step.

    Args:
        env: an environment of either backend that has `render`, or a registered name.
        policy: the result of a single run, or its policy.
        key: a JAX key.
        steps: the largest number of steps.
        path: where to save the GIF; None does not save it.
        fps: pictures per second, at most 50 (a GIF's limit).
        deterministic: take the most likely action in every step; otherwise actions are sampled.

    Raises:
        ImportError: Pillow is not installed.
        NotImplementedError: the environment has no `render`.
        ValueError: `steps` is below 1, `fps` not in 1 to 50, or `path` does not end in .gif.
        TypeError: the policy was made for other spaces, or holds several runs, or an argument is of a wrong type.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    if not 1 <= fps <= 50:
        raise ValueError(f"fps is {fps}; it must be from 1 to 50")
    if path is not None and not os.fspath(path).lower().endswith(".gif"):
        raise ValueError(f"path is {os.fspath(path)!r}; it must end in .gif, the only supported format")
    check_deterministic(deterministic)
    env, policy, key = as_env(env), as_policy(policy), rng.check_key(key)
    pillow()
    check_policy(env, policy)

    with computing_on(key):
        play, picture = _begin(env, policy, key)
        frames = [np.asarray(picture)]
        ended = False
        while not ended and len(frames) <= steps:
            play, picture, ended = _advance(env, policy, play, deterministic)
            frames.append(np.asarray(picture))
    animation = Animation(np.stack(frames), fps)
    if path is not None:
        animation.save(path)
    return animation


@jax.jit
def _begin(env: Any, policy: Policy, key: Array) -> tuple[Play, Array]:
    key_env, key_streams = jax.random.split(key)
    play = begin(env.batch(1), policy.module, rng.seed(key_env, (1,)), rng.seed(key_streams, (env.num_agents,)))
    return play, _picture(env, play.envs)


@functools.partial(jax.jit, static_argnames="deterministic")
def _advance(env: Any, policy: Policy, play: Play, deterministic: bool) -> tuple[Play, Array, Array]:
    batch = env.batch(1)
    play, step = transition(batch, *act(batch, policy, play, deterministic))
    picture = _picture(env, play.envs)  # before anything is reset, so that the end is seen
    return go_on(batch, play, step), picture, step.ended.all()


def _picture(env: Any, state: Any) -> Array:
    return env.render(jax.tree.map(lambda x: x[0], getattr(state, "env", state)))


def pillow() -> Any:
    """Pillow's Image module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import PIL.Image
    except ImportError:
        raise ImportError("animations need Pillow: pip install pillow") from None
    return PIL.Image
