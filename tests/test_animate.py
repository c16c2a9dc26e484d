"""An episode as pictures."""

import base64
import io
import sys

import jax
import numpy as np
import PIL.Image
import pytest
from test_evaluate import Right
from toy_envs import Corridor, Counters

import jaxpuffer
from jaxpuffer import animate
from jaxpuffer.policy import Policy

KEY = jax.random.key(3)
RIGHT = Policy({}, Right())


def test_one_picture_per_step_to_the_end(tmp_path):
    animation = animate(Corridor(length=6), RIGHT, KEY, path=tmp_path / "walk.gif", fps=20)
    # the walker starts in cell 0 and is last seen in cell 5, where the episode ends
    np.testing.assert_array_equal(animation.frames[:, 0, :, 0].argmax(1), [0, 1, 2, 3, 4, 5])
    with PIL.Image.open(tmp_path / "walk.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (6, (32, 8), 50)
    head, data = animation._repr_html_().split("base64,")
    assert head.startswith("<img") and PIL.Image.open(io.BytesIO(base64.b64decode(data.rstrip('">')))).n_frames == 6


def test_at_most_so_many_steps():
    assert len(animate(Corridor(length=6), RIGHT, KEY, steps=2).frames) == 3


@pytest.mark.needs_c
def test_c_environments():
    env = jaxpuffer.make("cartpole", backend="c")
    policy = jaxpuffer.policy.Policy({}, Right())
    assert animate(env, policy, KEY, steps=2).frames.dtype == np.uint8


def test_clear_errors(monkeypatch):
    with pytest.raises(ValueError, match="fps is 100"):
        animate(Corridor(), RIGHT, KEY, fps=100)
    with pytest.raises(NotImplementedError, match=r"Counters has no render"):
        animate(Counters(), RIGHT, KEY)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        animate(Corridor(), RIGHT, KEY)
