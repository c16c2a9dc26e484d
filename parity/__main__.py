"""python -m parity [ENV ...]: are the C environments and their JAX ports equal?"""

import argparse
import ast
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from parity import use_mode
from parity.proven import SHORT_STEPS, is_proven


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__)
    parser.add_argument("envs", nargs="*", metavar="ENV", help="environments; default all")
    parser.add_argument("--steps", type=int, default=20_000, help="consecutive steps of each environment (%(default)s)")
    parser.add_argument(
        "--num-envs", type=int, help="environments in the batch; default as many as make a million agent-steps"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--level",
        choices=("functions", "resync", "rollout"),
        help="what to compare; default rollout, in native mode resync",
    )
    parser.add_argument("--mode", choices=("strict", "native"), default="strict")
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), help="device of the JAX port; C stays on the CPU (--level resync)"
    )
    parser.add_argument(
        "--uniform",
        action="store_true",
        help="give all environments the same parameters; by default they vary by a quarter",
    )
    parser.add_argument(
        "--changed", action="store_true", help=f"{SHORT_STEPS} steps of what has not changed (python -m parity.proven)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the reports there")
    parser.add_argument("--env.NAME", metavar="VALUE", dest="ignored", help="a parameter of the one environment named")
    args, rest = parser.parse_known_args()
    if args.steps < 1 or (args.num_envs is not None and args.num_envs < 1):
        parser.error("--steps and --num-envs must be at least 1")
    if args.mode == "native" and args.level == "rollout":
        parser.error("--level rollout needs --mode strict: without equal bits free-running rollouts diverge")
    level: Any = args.level or ("rollout" if args.mode == "strict" and args.device is None else "resync")
    if args.device is not None and level != "resync":
        parser.error("--device needs --level resync")
    if args.device == "gpu" and args.mode == "strict":
        parser.error("--device gpu needs --mode native: a GPU fuses multiplications into additions")
    use_mode(args.mode)

    import jax

    from envs_c import NOT_BUILT, is_built
    from jaxpuffer import list_envs
    from parity.named import check_names_of, class_of

    check_names_of(args.envs, parser.error)
    if not is_built():
        parser.error(NOT_BUILT)
    if rest and len(args.envs) != 1:
        parser.error(f"parameters need exactly one environment, and {len(args.envs) or 'all'} are to be compared")
    from parity.harness import compare

    try:
        params = parameters(args.envs[0], rest) if rest else {}
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    varied = not args.uniform and args.device is None and level != "functions"

    try:
        device = None if args.device is None else jax.devices(args.device)[0]
    except RuntimeError as error:
        parser.error(str(error))
    reports, good = [], True
    for name in args.envs or list_envs():
        num_envs = args.num_envs or max(2, -(-64 // class_of(name)(**params).num_agents))
        short = args.changed and is_proven(name)
        steps = min(args.steps, SHORT_STEPS) if short else args.steps
        with jax.default_device(jax.devices("cpu")[0]):
            report = compare(name, level, args.mode, steps, num_envs, args.seed, device=device, varied=varied, **params)
        print(report.line(), flush=True)
        if short:
            print(f"{'':20s} (no file of it has changed since it was proven)")
        elif not report.counts:
            print(f"{'':20s} (too small to count: 20,000 steps and 1,000 ended episodes are needed)")
        good &= report.equal and (short or not report.gaps)
        reports.append(record(report))
        if args.json:
            Path(args.json).write_text(json.dumps(reports, indent=1, default=str))
    sys.exit(not good)


def parameters(name: str, flags: list[str]) -> dict[str, Any]:
    """`--env.NAME VALUE ...` as keyword arguments of `make(name)`.

    Raises:
        TypeError: an unknown parameter.
        ValueError: a value that is not of its type or out of range, or a flag of another form.
    """
    from jaxpuffer.pytree import check_names, parameter_fields
    from parity.named import class_of

    cls = class_of(name)
    words = [word for flag in flags for word in flag.split("=", 1)]
    kinds = {field.name: kind for field, kind in parameter_fields(cls)}
    found: dict[str, Any] = {}
    for flag, value in itertools.zip_longest(words[::2], words[1::2]):
        if not flag.startswith("--env.") or value is None:
            raise ValueError(f"{flag} is not a flag with a value; parameters are given as --env.NAME VALUE")
        parameter = flag.removeprefix("--env.")
        check_names(cls, [parameter], name)
        try:
            found[parameter] = value if kinds[parameter] is str else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f"{flag} is {value!r}; it must be a value of type {kinds[parameter]}") from None
    cls(**found)
    return found


def record(report: Any) -> dict[str, Any]:
    """A report as JSON values."""
    return {"kind": "parity", **dataclasses.asdict(report), "agent_steps": report.agent_steps, "equal": report.equal}


if __name__ == "__main__":
    main()
