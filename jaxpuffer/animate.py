"""Watch an agent: one episode as pictures, shown in a notebook, or saved as GIF, MP4 or HTML."""

import base64
import functools
import html
import importlib.resources
import io
import json
import os
import string
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.checkpoint import twin_of
from jaxpuffer.devices import computing_on, in_32_bits
from jaxpuffer.env import Env
from jaxpuffer.evaluate import as_policy, check_count, check_deterministic, check_policy
from jaxpuffer.pictures import enlargement, pillow, png
from jaxpuffer.play import Play, act, begin, go_on, transition
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import Result
from jaxpuffer.registry import as_env

SUFFIXES = (".gif", ".mp4", ".html")
FASTEST_GIF = 50  # pictures per second
NARROWEST_PLAYER = 340  # pixels, for its controls in one line
LARGEST_PAGE = 10_000_000  # bytes of pictures in an HTML player


class Animation:
    """Pictures in sequence; shows itself in a notebook, as a player.

    Args:
        frames: uint8 (time, height, width, 3), for example `jax.vmap(env.render)(states)`.
        fps: pictures per second, from 1 to 50.

    Raises:
        ValueError: `fps` is not in 1 to 50, or there is no picture.
        TypeError: `frames` has another shape or dtype.
    """

    def __init__(self, frames: np.ndarray | Array, fps: float = 30) -> None:
        _check_fps(fps)
        self.frames = np.asarray(frames)
        self.fps = fps
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            is_now = f"{self.frames.dtype}{list(self.frames.shape)}"
            raise TypeError(f"frames is {is_now}; it must be uint8[time, height, width, 3]")
        if not self.frames.size:
            raise ValueError(f"frames has the shape {self.frames.shape}; it must hold at least one picture")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file: .gif (repeats without end), .mp4 (H.264) or .html (a player that needs no other file).

        A player holds at most 10 MB of pictures. A longer animation keeps every second picture, or every third and
        so on, and the player says so.

        Raises:
            ValueError: `path` has another suffix.
            FileNotFoundError: its folder does not exist.
            ImportError: a package is missing: Pillow for GIF and HTML, imageio-ffmpeg for MP4.
        """
        match check_file(path):
            case ".gif":
                Path(path).write_bytes(self._gif())
            case ".mp4":
                self._write_mp4(path)
            case _:
                Path(path).write_text(self._page(), encoding="utf-8")

    def _gif(self) -> bytes:
        image = pillow()
        first, *others = (image.fromarray(frame) for frame in self.frames)
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=1000 / self.fps, loop=0)
        return buffer.getvalue()

    def _write_mp4(self, path: str | os.PathLike[str]) -> None:
        _, height, width, _ = self.frames.shape
        times = enlargement(height, width)
        # a quarter of the colours, as every player expects of H.264; that needs even sides
        even = f"scale=iw*{times}:ih*{times}:flags=neighbor,pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"
        raw = f"-f rawvideo -pixel_format rgb24 -video_size {width}x{height} -framerate {self.fps}".split()
        command = [imageio_ffmpeg().get_ffmpeg_exe(), "-y", "-v", "error", *raw, "-i", "-", "-vf", even]
        done = subprocess.run(
            [*command, "-c:v", "libx264", os.path.abspath(path)], input=self.frames.tobytes(), capture_output=True
        )
        if done.returncode:
            raise OSError(f"{os.fspath(path)} could not be written: {done.stderr.decode().strip()}")

    def _page(self) -> str:
        pictures = [base64.b64encode(png(frame)).decode() for frame in self.frames]
        every = -(-sum(map(len, pictures)) // LARGEST_PAGE)
        steps = list(range(0, len(pictures), every))
        _, width = self._shown_size
        note = "" if every == 1 else f"1 of {every} pictures, because all would need more than {LARGEST_PAGE:,} bytes"
        page = (importlib.resources.files("jaxpuffer") / "player.html").read_text(encoding="utf-8")
        return string.Template(page).substitute(
            width=width,
            page_width=max(width, NARROWEST_PLAYER),
            first=pictures[0],
            pictures=json.dumps([pictures[i] for i in steps]),
            steps=json.dumps(steps),
            fps=self.fps / every,
            note=note,
        )

    def _repr_html_(self) -> str:
        # a frame of its own: several players, and the notebook, do not disturb each other
        height, width = self._shown_size
        width = max(width, NARROWEST_PLAYER)
        page = html.escape(self._page())
        return f'<iframe srcdoc="{page}" width="{width}" height="{height + 64}" style="border: 0"></iframe>'

    @property
    def _shown_size(self) -> tuple[int, int]:
        _, height, width, _ = self.frames.shape
        times = enlargement(height, width)
        return height * times, width * times


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
        path: the .gif, .mp4 or .html file to save it to (see `Animation.save`); None does not save it.
        fps: pictures per second, from 1 to 50.
        deterministic: take the most likely action in every step; otherwise actions are sampled.

    Raises:
        ImportError: Pillow is not installed, or imageio-ffmpeg for an MP4.
        NotImplementedError: the environment has no `render`.
        ValueError: `steps` is below 1, `fps` not in 1 to 50, or `path` has another suffix.
        FileNotFoundError: the folder of `path` does not exist.
        TypeError: the policy was made for other spaces, or holds several runs, or an argument is of a wrong type.
    """
    check_count("steps", steps)
    _check_fps(fps)
    if path is not None:
        check_file(path)
    check_deterministic(deterministic)
    env, policy, key = as_env(env), as_policy(policy), rng.check_key(key)
    check_render(env)
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


def check_render(env: Any) -> None:
    """Raise NotImplementedError if an environment of either backend has no `render`."""
    twin = twin_of(env)
    if type(twin).render is Env.render:
        raise NotImplementedError(f"{type(twin).__name__} has no render(state), so there are no pictures of it")


def check_file(path: str | os.PathLike[str]) -> str:
    """The suffix of a file that an animation can be saved to.

    Raises:
        ValueError: it is not .gif, .mp4 or .html.
        FileNotFoundError: the file's folder does not exist.
        ImportError: the package for it is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path is {os.fspath(path)!r}; it must end in {', '.join(SUFFIXES)}")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"path is {os.fspath(path)!r}; there is no folder {Path(path).parent}")
    imageio_ffmpeg() if suffix == ".mp4" else pillow()
    return suffix


def imageio_ffmpeg() -> Any:
    """The package that writes MP4 files.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ImportError("MP4 files need imageio-ffmpeg: pip install imageio-ffmpeg") from None
    return imageio_ffmpeg


def _check_fps(fps: float) -> None:
    if not 1 <= fps <= FASTEST_GIF:
        raise ValueError(f"fps is {fps}; it must be from 1 to {FASTEST_GIF}")
