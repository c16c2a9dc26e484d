"""jaxpuffer match and tournament, and the league's flags and files."""

import contextlib
import io
from pathlib import Path

import pytest

from jaxpuffer import load
from jaxpuffer.cli import main

SMALL = "--config.num_envs 16 --config.horizon 8 --config.hidden 8 --config.minibatch_size 0 --config.total_steps 2048"
LEAGUE = "--league.opponents 2 --league.share 0.5 --league.snapshot_every 512 --league.capacity 4"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "two"
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        main(["train", "pong_two", "--out", str(folder), *SMALL.split(), *LEAGUE.split()])
    assert "a league: 8 of 16 games against 2 opponents and 2 anchors\n" in said.getvalue()
    # no game has ended after 64 steps, so that nobody knows how many are won
    assert "Elo 0, wins unknown, " in said.getvalue()
    return str(folder)


def test_a_wrong_anchor_is_refused_before_anything_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "pong_two", "--league.anchor", "follow,spun"])
    said = capsys.readouterr()
    assert "PongTwo has the bots" in said.err and "'spun' is none of them" in said.err and not said.out


def test_a_league_is_trained_and_kept(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = load(run)
    assert result.config.league.opponents == 2 and int(result.state.league.size) > 2
    file = tmp_path / "own.toml"
    file.write_text("[league]\nopponents = 3\n")
    with pytest.raises(SystemExit):
        main(["train", "pong_two", "--out", run, "--resume", "--config", str(file), *SMALL.split()])
    assert "league" in (said := capsys.readouterr().err) and "to go on under other settings" in said, said


def test_matches_of_runs_bots_and_random(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["match", run, "random", "--games", "20"])
    out = capsys.readouterr().out
    assert f"{run} against random" in out and "both sides  wins" in out and "10 games" in out
    main(["match", f"{run}/league-0", "scripted", "--games", "10", "--deterministic"])
    assert "against scripted" in capsys.readouterr().out
    for args, message in (
        (
            ["random", "scripted", "--games", "4"],
            "none of random, scripted is of a game of two sides; name one with --env",
        ),
        (["random", "scripted:nobody", "--env", "pong_two"], "has the bots"),
        (["random", "random", "--env", "cartpole"], "CartPole is no game of two sides"),
        ([run, "random", "--games", "3"], "games is 3; it must be even"),
        ([run, "random", "--seed", "-1"], "--seed is -1; it must be from 0 to"),
        ([f"{run}/league-9", "random"], "policies, numbered from 0"),
        (["nowhere", "random"], "there is no saved run in"),
    ):
        with pytest.raises(SystemExit):
            main(["match", *args])
        assert message in capsys.readouterr().err


def test_a_tournament_of_a_runs_snapshots(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["tournament", run, "--games", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert "Elo" in lines[0] and sum(f"{run}/league-" in line for line in lines) == int(load(run).state.league.size)
    ratings = [float(line.split()[1]) for line in lines[1:]]
    assert ratings == sorted(ratings, reverse=True)
    with pytest.raises(SystemExit):
        main(["tournament", "random", "random", "--env", "pong_two"])
    assert "a player is given twice: random" in capsys.readouterr().err
