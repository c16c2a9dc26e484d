"""An episode as pictures: in a notebook, and as GIF, MP4 and HTML."""

import base64
import html
import io
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from test_evaluate import Right
from toy_envs import Corridor, Counters

import jaxpuffer
from jaxpuffer import Animation, animate, pictures
from jaxpuffer.cli import main
from jaxpuffer.host import HostEnv
from jaxpuffer.policy import Policy
from jaxpuffer.spaces import Discrete

KEY = jax.random.key(3)
RIGHT = Policy({}, Right())
NOISE = np.random.default_rng(0).integers(0, 256, (7, 9, 33, 3), np.uint8)


def pictures_of(page: str) -> tuple[np.ndarray, list[int], float]:
    """The pictures of a player, their steps, and the pictures per second."""
    found = {name: re.search(rf"^const {name} = ([^;]*);", page, re.M) for name in ("pictures", "steps", "fps")}
    values = {name: json.loads(match[1]) for name, match in found.items() if match}
    frames = [np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(x)))) for x in values["pictures"]]
    return np.stack(frames), values["steps"], values["fps"]


def test_one_picture_per_step_to_the_end(tmp_path):
    animation = animate(Corridor(length=6), RIGHT, KEY, path=tmp_path / "walk.gif", fps=20)
    # the walker starts in cell 0 and is last seen in cell 5, where the episode ends
    np.testing.assert_array_equal(animation.frames[:, 0, :, 0].argmax(1), [0, 1, 2, 3, 4, 5])
    with PIL.Image.open(tmp_path / "walk.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (6, (32, 8), 50)


def test_at_most_so_many_steps():
    assert len(animate(Corridor(length=6), RIGHT, KEY, steps=2).frames) == 3


def test_the_player_holds_every_picture_and_needs_no_other_file(tmp_path):
    animation = Animation(NOISE, fps=12)
    animation.save(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    frames, steps, fps = pictures_of(page)
    np.testing.assert_array_equal(frames, NOISE)
    assert (steps, fps) == (list(range(7)), 12)
    assert not re.search(r"https?:|<link|@import|\bsrc=\"(?!data:)", page)
    # a notebook shows the same page, in a frame
    shown = re.fullmatch(
        r'<iframe srcdoc="([^"]*)" width="340" height="154" style="border: 0"></iframe>', animation._repr_html_()
    )
    assert shown and html.unescape(shown[1]) == page


def test_a_player_that_would_be_too_large_keeps_fewer_pictures_and_says_so(monkeypatch):
    animation = Animation(NOISE, fps=12)
    monkeypatch.setattr(sys.modules["jaxpuffer.animate"], "LARGEST_PAGE", 3000)
    page = animation._page()
    frames, steps, fps = pictures_of(page)
    every = steps[1]
    assert every > 1 and steps == list(range(0, 7, every)) and fps == pytest.approx(12 / every)
    np.testing.assert_array_equal(frames, NOISE[::every])
    assert f"1 of {every} pictures, because all would need more than 3,000 bytes" in page


def test_a_film(tmp_path, monkeypatch):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")  # so that reading does not call os.fork
    Animation(NOISE, fps=12).save(tmp_path / "x.mp4")
    film = imageio_ffmpeg.read_frames(tmp_path / "x.mp4")
    about = next(film)
    # ten times as large, because the longer side is 33 pixels
    assert about["size"] == (330, 90) and about["fps"] == 12 and len(list(film)) == 7


def test_a_notebook_shows_a_picture_and_prints_other_arrays():
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell.instance()
    try:
        pictures.show_in_notebooks()
        env = Corridor()
        picture = env.render(env.reset(KEY)[0])
        shown, _ = shell.display_formatter.format(picture)
        np.testing.assert_array_equal(
            np.asarray(PIL.Image.open(io.BytesIO(shown["image/png"]))), np.repeat(np.repeat(picture, 10, 0), 10, 1)
        )
        for other in (picture[:7], picture.astype(jnp.float32), picture[0], picture[..., :2], jnp.float32(1)):
            shown, _ = shell.display_formatter.format(other)
            assert set(shown) == {"text/plain"}
    finally:
        shells.InteractiveShell.clear_instance()


@pytest.mark.needs_c
def test_c_environments():
    env = jaxpuffer.make("cartpole", backend="c")
    policy = jaxpuffer.policy.Policy({}, Right())
    assert animate(env, policy, KEY, steps=2).frames.dtype == np.uint8


def test_clear_errors(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="fps is 100"):
        animate(Corridor(), RIGHT, KEY, fps=100)
    with pytest.raises(ValueError, match=r"path is 'x.webm'; it must end in .gif, .mp4, .html"):
        animate(Corridor(), RIGHT, KEY, path="x.webm")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        animate(Corridor(), RIGHT, KEY, path=tmp_path / "missing" / "x.html")
    with pytest.raises(NotImplementedError, match=r"Counters has no render"):
        animate(Counters(), RIGHT, KEY)
    with pytest.raises(TypeError, match="walk is stepped by Python and has no pictures here"):
        animate(HostEnv("walk", lambda num_envs: None, Corridor.observation_space, Discrete(2)), RIGHT, KEY)
    with pytest.raises(TypeError, match=r"frames is uint8\[9, 33, 3\]; it must be uint8\[time, height, width, 3\]"):
        Animation(NOISE[0])
    with pytest.raises(ValueError, match="at least one picture"):
        Animation(NOISE[:0])
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match="pip install imageio-ffmpeg"):
        animate(Corridor(), RIGHT, KEY, path=tmp_path / "x.mp4")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        animate(Corridor(), RIGHT, KEY)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--html x.gif", "--html is x.gif; it must end in .html"),
        ("--mp4 x.avi", "--mp4 is x.avi; it must end in .mp4"),
        ("--mp4 x.mp4", "pip install imageio-ffmpeg"),
        ("--gif /nowhere/x.gif", "there is no folder /nowhere"),
        ("--html x.html", "CartPole has no render"),
    ],
)
def test_eval_refuses_before_it_evaluates(flags, message, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(sys.modules["jaxpuffer.cli"], "evaluate", lambda *args, **kwargs: pytest.fail("evaluated"))
    monkeypatch.delattr(type(jaxpuffer.make("cartpole")), "render")
    with pytest.raises(SystemExit) as stop:
        main(["eval", "cartpole", "--no_cache", *flags.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1
