"""The command that compares settings over seeds: jaxpuffer ablate ENV... --vary FIELD=VALUE,... ."""

import argparse
import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxpuffer.ablate import DESIGNS, OF_ENV, ablate, again
from jaxpuffer.ablate_report import markdown
from jaxpuffer.cache import use_cache
from jaxpuffer.cli_runs import Parser, both_spellings
from jaxpuffer.config_file import read_config_file

_EXAMPLES = """\
examples:
  jaxpuffer ablate cartpole breakout --vary optimizer=muon,adam advantage=gae,puffer --seeds 8
  jaxpuffer ablate cartpole --vary gamma=0.99,0.995,0.999 --vary env.gravity=9.8,5 --design one
  jaxpuffer ablate pong --arms arms.toml     changes that belong together:
      [arms.muon]                            the first arm is the base
      [arms.adam]
      optimizer = "adam"
      momentum = 0.9
      learning_rate = 0.004
  jaxpuffer ablate --again ablations/pong-arms --out ablations/pong-again"""


def run_ablation(args: Sequence[str]) -> None:
    """jaxpuffer ablate ENV...: train arms that differ in some fields, and compare their scores."""
    parser = Parser(
        "jaxpuffer ablate",
        description="Train arms that differ in some fields, with the same seeds, and compare their evaluated scores.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("envs", metavar="ENV", nargs="*", help="names of environments")
    parser.add_argument(
        "--vary",
        metavar="FIELD=VALUES",
        nargs="+",
        action="extend",
        default=[],
        help="values joined by commas, the base's first; a field of the configuration, or env.NAME; one value alone is "
        "set in all arms",
    )
    parser.add_argument(
        "--design",
        choices=DESIGNS,
        default="grid",
        help="grid: an arm for each combination of values (default); one: the base, and an arm for each other value",
    )
    parser.add_argument("--arms", metavar="FILE", help="a TOML file of arms, in place of --vary")
    parser.add_argument("--config", metavar="FILE", help="a TOML file of settings of all arms, as `train` takes it")
    parser.add_argument(
        "--seeds", metavar="N", type=_count, default=None, help="number of seeds, from 0 on; default 10"
    )
    parser.add_argument(
        *both_spellings("--total-steps"),
        metavar="N",
        type=_count,
        help="agent-steps of each run; default the configuration's",
    )
    parser.add_argument("--backend", choices=("c", "jax"), help="by default C on a CPU, and JAX otherwise")
    parser.add_argument(
        "--episodes", metavar="N", type=_count, default=None, help="fresh episodes that evaluate a run; default 256"
    )
    parser.add_argument("--again", metavar="DIR", help="run the ablation in this folder again, from its record")
    parser.add_argument("--out", metavar="DIR", help="folder of the results; default ablations/ENVS-FIELDS")
    parser.add_argument("--resume", action="store_true", help="go on with what the ablation in --out lacks")
    parser.add_argument(
        *both_spellings("--no-cache"), action="store_true", help="compile everything again, and keep nothing"
    )
    flags = parser.parse_args(args)
    given = {name: getattr(flags, name) for name in ("seeds", "total_steps", "backend", "episodes")}
    given = {name: value for name, value in given.items() if value is not None}
    if flags.again is not None:
        if flags.envs or flags.vary or flags.arms or flags.config or given or flags.design != DESIGNS[0]:
            parser.error("--again takes all settings from the record; it goes with --out, --resume and --no_cache only")
    elif not flags.envs or bool(flags.vary) == bool(flags.arms):
        parser.error("give one environment or more, and then either --vary FIELD=VALUES or --arms FILE")

    if flags.again is not None:
        use_cache(flags.no_cache)
        record = again(flags.again, flags.out or f"{flags.again.rstrip('/')}-again", flags.resume)
    else:
        shared = {} if flags.config is None else _changes(*read_config_file(Path(flags.config), {}, {}))
        if flags.total_steps is not None:
            shared.pop("total_steps", None)  # a flag is stronger than a file
        if flags.arms:
            arms = {name: shared | changes for name, changes in _arms_of(Path(flags.arms)).items()}
            how: dict[str, Any] = {"arms": arms}
            what = [Path(flags.arms).stem]
        else:
            vary = _values(flags.vary)
            how = {"vary": {field: [value] for field, value in shared.items()} | vary, "design": flags.design}
            what = [field.removeprefix(OF_ENV) for field in vary]
        use_cache(flags.no_cache)
        out = flags.out or f"ablations/{'-'.join([*flags.envs, *what])[:80]}"
        record = ablate(flags.envs, **how, **given, directory=out, resume=flags.resume)
    print(f"\n{markdown(record)}", end="")


COMMANDS = {"ablate": run_ablation}


def _count(text: str) -> int:
    """A whole number, also as 2e6 or 2_000_000."""
    value = _value(text)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return value


def _values(texts: Sequence[str]) -> dict[str, list[Any]]:
    """What --vary says: values by field."""
    vary: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        field = field.replace("-", "_")
        if not equals or not re.fullmatch(r"[\w.]+", field) or "" in values.split(","):
            raise ValueError(f"--vary has {text!r}; it must be FIELD=VALUE,VALUE,... (see jaxpuffer ablate --help)")
        if field in vary:
            raise ValueError(f"--vary has {field} twice; give all of its values at once")
        vary[field] = [_value(value) for value in values.split(",")]
    return vary


def _value(text: str) -> Any:
    """A number, True, False, None or a word; the field's own type is checked when the arm is made."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number  # 2e6
    return text


def _arms_of(file: Path) -> dict[str, dict[str, Any]]:
    """The arms of a TOML file: a table [arms.NAME] for each, like a file of --config."""
    fields, env = read_config_file(file, {}, {})
    arms = fields.pop("arms", None)
    if fields or env or not isinstance(arms, dict) or not all(isinstance(table, dict) for table in arms.values()):
        raise ValueError(f"--arms is {file}; it must have a table [arms.NAME] for each arm, and nothing else")
    changes: dict[str, dict[str, Any]] = {}
    for name, table in arms.items():
        of_env = table.pop("env", {})
        if not isinstance(of_env, dict):
            raise ValueError(f"{file}: env of arm {name} is {of_env!r}; it must be a table")
        changes[name] = _changes(table, of_env)
    return changes


def _changes(fields: dict[str, Any], env: dict[str, Any]) -> dict[str, Any]:
    return fields | {f"{OF_ENV}{name}": value for name, value in env.items()}
