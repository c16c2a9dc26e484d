"""The commands of games of two sides: jaxpuffer match | tournament."""

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxpuffer.ablate import MAX_SEED
from jaxpuffer.baselines import load_baseline
from jaxpuffer.cache import use_cache
from jaxpuffer.checkpoint import checkpoints, load, read_record, run_and_checkpoint
from jaxpuffer.cli_runs import Parser, both_spellings
from jaxpuffer.env import has_sides
from jaxpuffer.match import match, tournament
from jaxpuffer.players import Random, Scripted
from jaxpuffer.registry import default_backend, list_envs, make

PLAYERS = """\
players: RUN, RUN/best or RUN/checkpoint-3 for a saved run; RUN/league-3 for the policy 3 of its league; the name of an
environment for the agent that ships with it; scripted for the strongest scripted player, scripted:NAME for another; and
random"""


def play_match(args: Sequence[str]) -> None:
    """jaxpuffer match A B: two players on both sides."""
    parser = _parser("match", "Play a game of two sides, half of the games on each side, and count who wins.", 1000)
    parser.add_argument("players", metavar="PLAYER", nargs=2)
    flags = parser.parse_args(args)
    use_cache(flags.no_cache)
    env = _environment(flags.players, flags.env)
    loaded = functools.cache(load)
    first, second = (_player(loaded, text) for text in flags.players)
    found = match(env, first, second, **_how(flags))
    print(f"{flags.players[0]} against {flags.players[1]}, in brackets the 95 % interval\n{found}")


def play_tournament(args: Sequence[str]) -> None:
    """jaxpuffer tournament RUN...: a table of Elo."""
    about = (
        "Let each of several players play each, and print their Elo. Of a single run: its checkpoints and its league."
    )
    parser = _parser("tournament", about, 200)
    parser.add_argument("players", metavar="PLAYER", nargs="+")
    flags = parser.parse_args(args)
    use_cache(flags.no_cache)
    env = _environment(flags.players, flags.env)
    loaded = functools.cache(load)
    names = flags.players
    if len(names) == 1:
        if _is_rule(names[0]) or _is_shipped(names[0]) or _run_and_policy(names[0])[2] is not None:
            raise ValueError(f"a tournament needs at least two players, or one run; there is only {names[0]}")
        names = _snapshots(loaded, names[0])
    if len(set(names)) < len(names):
        raise ValueError(f"a player is given twice: {max(names, key=names.count)}")
    print(tournament(env, {name: _player(loaded, name) for name in names}, **_how(flags)))


COMMANDS = {"match": play_match, "tournament": play_tournament}


def _parser(command: str, about: str, games: int) -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(f"jaxpuffer {command}", description=about, epilog=PLAYERS, formatter_class=raw)
    parser.add_argument(
        "--games", type=int, default=games, help=f"games of two players, an even number; default {games}"
    )
    parser.add_argument("--env", metavar="ENV", help="the game; by default that of the first run that has two sides")
    parser.add_argument("--seed", type=int, default=0, help="seed of the games; default 0")
    parser.add_argument(
        *both_spellings("--max-steps"),
        type=int,
        default=20_000,
        help="steps after which a game is a draw; default 20000",
    )
    parser.add_argument("--deterministic", action="store_true", help="policies take their most likely action")
    parser.add_argument(
        *both_spellings("--no-cache"), action="store_true", help="compile everything again, and keep nothing"
    )
    return parser


def _how(flags: argparse.Namespace) -> dict[str, Any]:
    """The arguments of match and tournament that flags are."""
    if not 0 <= flags.seed <= MAX_SEED:
        raise ValueError(f"--seed is {flags.seed}; it must be from 0 to {MAX_SEED}")
    names = ("games", "max_steps", "deterministic")
    return {"key": jax.random.key(flags.seed)} | {name: getattr(flags, name) for name in names}


def _environment(players: Sequence[str], name: str | None) -> Any:
    """The game to play."""
    if name is not None:
        return make(name, backend=default_backend())
    for text in players:
        if _is_shipped(text):
            env = make(text, backend=default_backend())
        elif _is_rule(text):
            continue
        else:
            record = read_record(_run_and_policy(text)[0])
            if record["environment"] is None:
                raise ValueError(
                    f"{text} was trained on {record['class']}, which is not registered; use match or tournament in "
                    "Python"
                )
            env = make(record["environment"], backend=default_backend(), **record["parameters"])
        if has_sides(env):
            return env
    raise ValueError(f"none of {', '.join(players)} is of a game of two sides; name one with --env")


def _player(loaded: Callable[..., Any], text: str) -> Any:
    if text == "random":
        return Random()
    if _is_rule(text):
        return Scripted(text.partition(":")[2])
    if _is_shipped(text):
        return load_baseline(text)
    run, checkpoint, index = _run_and_policy(text)
    result = loaded(run, checkpoint=checkpoint)
    if index is None:
        return result
    policies = result.league_policies
    if not 0 <= index < len(policies):
        raise ValueError(f"there is no {text}; the run's league has {len(policies)} policies, numbered from 0")
    return policies[index]


def _is_rule(text: str) -> bool:
    return text == "random" or text.partition(":")[0] == "scripted"


def _is_shipped(text: str) -> bool:
    return text in list_envs() and not Path(text).exists()


def _run_and_policy(text: str) -> tuple[Path, str | None, int | None]:
    """A run, the name of its checkpoint, and the number of a policy in its league."""
    folder, _, last = text.rstrip("/").rpartition("/")
    name, _, index = last.rpartition("-")
    if folder and name == "league" and index.isdecimal():
        return run_and_checkpoint(folder)[0], None, int(index)
    return *run_and_checkpoint(text), None


def _snapshots(loaded: Callable[..., Any], run: str) -> list[str]:
    """The players that a run has: the policies of its league, and its checkpoints."""
    record = read_record(run)
    league = loaded(run_and_checkpoint(run)[0], checkpoint=None).state.league
    names = [f"{run}/league-{i}" for i in range(0 if league is None else int(league.size))]
    names += [f"{run}/{entry['checkpoint']}" for entry in checkpoints(record)]
    if len(names) < 2:
        raise ValueError(f"{run} has one checkpoint and no league; name several players")
    return names
