"""python -m parity [ENV ...]: are the C environments and their JAX ports equal?"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from parity import use_mode


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__)
    parser.add_argument("envs", nargs="*", metavar="ENV", help="environments; default all")
    parser.add_argument("--steps", type=int, default=20_000, help="consecutive steps of each environment (%(default)s)")
    parser.add_argument("--num-envs", type=int, help="environments side by side; default a million agent-steps' worth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", choices=("functions", "resync", "rollout"), help="default rollout; native: resync")
    parser.add_argument("--mode", choices=("strict", "native"), default="strict")
    parser.add_argument("--device", choices=("cpu", "gpu"), help="the JAX port's; C stays on the CPU (--level resync)")
    parser.add_argument("--json", metavar="FILE", help="write the reports there")
    args = parser.parse_args()
    if args.steps < 1 or (args.num_envs is not None and args.num_envs < 1):
        parser.error("--steps and --num-envs must be at least 1")
    if args.mode == "native" and args.level == "rollout":
        parser.error("--level rollout needs --mode strict: without equal bits free-running rollouts part ways")
    level: Any = args.level or ("rollout" if args.mode == "strict" and args.device is None else "resync")
    if args.device is not None and level != "resync":
        parser.error("--device needs --level resync")
    if args.device == "gpu" and args.mode == "strict":
        parser.error("--device gpu needs --mode native: a GPU fuses multiplications into additions")
    use_mode(args.mode)

    import jax

    from envs_c import NOT_BUILT, is_built
    from jaxpuffer import list_envs, make
    from jaxpuffer.registry import check_envs

    check_envs(args.envs, parser.error)
    if not is_built():
        parser.error(NOT_BUILT)
    from parity.harness import compare

    try:
        device = None if args.device is None else jax.devices(args.device)[0]
    except RuntimeError as error:
        parser.error(str(error))
    reports, good = [], True
    for name in args.envs or list_envs():
        num_envs = args.num_envs or max(2, -(-64 // make(name).num_agents))
        with jax.default_device(jax.devices("cpu")[0]):
            report = compare(name, level, args.mode, args.steps, num_envs, args.seed, device=device)
        print(report.line(), flush=True)
        if not report.counts:
            print(f"{'':20s} (too small to count: that takes 20,000 steps and 1,000 ended episodes)")
        good &= report.equal and not report.missing_events
        reports.append(record(report))
        if args.json:
            Path(args.json).write_text(json.dumps(reports, indent=1, default=str))
    sys.exit(not good)


def record(report: Any) -> dict[str, Any]:
    """A report as JSON takes it."""
    return {**dataclasses.asdict(report), "agent_steps": report.agent_steps, "equal": report.equal}


if __name__ == "__main__":
    main()
