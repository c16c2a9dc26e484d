"""How the time of an update is spent: every part is measured, and the shares are from 0 to 1."""

import jax
import pytest
from toy_envs import Corridor, tiny_config

from jaxpuffer import fit
from jaxpuffer.ppo import init
from jaxpuffer.profile import profile, time_shares

PARTS = {"environment", "policy", "advantage", "optimization"}


@pytest.mark.parametrize(
    "changes", [{}, {"advantage": "puffer", "prioritize": "with_replacement"}], ids=["gae", "puffer"]
)
def test_parts_and_shares(changes: dict[str, str]) -> None:
    config = tiny_config(**changes)
    state = init(Corridor(), jax.random.key(0), config)
    before = [leaf.copy() for leaf in jax.tree.leaves(state)]
    seconds = profile(Corridor(), state, config)
    assert set(seconds) == PARTS
    assert seconds["environment"] > 0 and seconds["advantage"] > 0
    assert all(part >= 0 for part in seconds.values())
    assert all((a == b).all() for a, b in zip(before, jax.tree.leaves(state), strict=True))

    shares = time_shares(Corridor(), state, config, host=0.25)
    assert set(shares) == PARTS | {"host"}
    assert shares["host"] == 0.25
    assert sum(shares.values()) == pytest.approx(1)


def test_fit_prints_the_shares(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Corridor(), jax.random.key(0), tiny_config(), progress=False, profile=True)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("time: "))
    shares = dict(part.rsplit(" ", 1) for part in line.removeprefix("time: ").split(", "))
    assert set(shares) == PARTS | {"host"}
    assert sum(int(share.rstrip("%")) for share in shares.values()) == pytest.approx(100, abs=3)
