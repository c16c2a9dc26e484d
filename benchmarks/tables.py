"""python -m benchmarks.tables FILE.json ...: the records of benchmarks as Markdown tables.

`python -m benchmarks.tables baselines`: the README's table of environments.
"""

import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(f"{__doc__}")
    if sys.argv[1] == "baselines":
        print(baselines())
        return
    if missing := [file for file in sys.argv[1:] if not Path(file).is_file()]:
        sys.exit(f"there is no file {', '.join(missing)}")
    print("\n\n".join(tables(json.loads(Path(file).read_text())) for file in sys.argv[1:]))


def tables(records: list[dict[str, Any]]) -> str:
    """One table, after a line that says on which machine and how it was measured."""
    first = next((r for r in records if "error" not in r), records[0])
    kinds: dict[str, Callable[[list[dict[str, Any]]], str]] = {
        "sps": _environments,
        "peers": _peers,
        "ablations": _ablations,
        "seeds": _seeds,
        "sizes": _sizes,
        "train": _training,
    }
    if first.get("kind") not in kinds:
        sys.exit(f"there is no table for records of kind {first.get('kind')}; there are {', '.join(kinds)}")
    return f"{_setting(first)}\n\n{kinds[first['kind']](records)}"


def baselines() -> str:
    """A row per environment: its spaces, the scores of an untrained and of the shipped agent, its speed."""
    from jaxpuffer import list_envs, make
    from jaxpuffer.baselines import baseline_record, figures_in_words, spaces_in_words

    rows = []
    for name in list_envs():
        env, record = make(name), baseline_record(name)
        own = (ROOT / f"docs/envs/{name}.md").exists()
        page = name if own else type(env).__module__.removeprefix("envs_jax.")
        row = [f"[{name}](docs/envs/{page}.md)", str(env.num_agents), *spaces_in_words(env)]
        if record is not None:
            row += figures_in_words(record)
        rows.append(row + [""] * (8 - len(row)))
    columns = ["name", "agents", "observation", "action", "untrained", "trained", "C", "JAX"]
    return markdown(columns, rows, left=4)


def _environments(records: list[dict[str, Any]]) -> str:
    """Million steps per second by backend and number of environments."""
    sizes = sorted({r["num_envs"] for r in records})
    speeds = {(r["env"], r["backend"], r["num_envs"]): r["steps_per_second"] / 1e6 for r in records}
    compiles: dict[tuple[str, str], list[float]] = {}
    for r in records:
        compiles.setdefault((r["env"], r["backend"]), []).append(r["compile_seconds"])
    rows = [
        [
            env,
            backend,
            *(f"{speeds[env, backend, n]:.2f}" if (env, backend, n) in speeds else "" for n in sizes),
            "" if backend == "c" else f"{statistics.median(seconds):.1f}",
        ]
        for (env, backend), seconds in compiles.items()
    ]
    return markdown(["environment", "backend", *(f"{n:,}" for n in sizes), "compile, s"], rows, left=2)


def _training(records: list[dict[str, Any]]) -> str:
    """A row per environment: medians over the seeds, and each seed's time to the score."""
    rows = []
    for env in dict.fromkeys(r["env"] for r in records):
        runs = [r for r in records if r["env"] == env]
        good = [r for r in runs if "error" not in r]
        until = runs[0]["until"]
        times = [r.get("seconds_to_score") or math.inf for r in runs]
        how = []
        if good:
            how = [good[0]["backend"], good[0]["policy"]]
            how += [f"{good[0]['devices']} devices"] if good[0].get("devices", 1) > 1 else []

        def median(name: str, good: list[dict[str, Any]] = good) -> float:
            return statistics.median(r[name] for r in good) if good else math.nan

        each = ", ".join("failed" if math.isinf(t) else f"{t:.1f}" for t in times)
        failed = len(runs) - len(good) if until is None else sum(map(math.isinf, times))
        rows.append(
            [
                f"{env} ({', '.join(how)})" if how else env,
                f"{median('steps_per_second') / 1e6:.2f}",
                ", ".join(f"{r['score']:.1f} ± {r['score_standard_error']:.1f}" for r in good),
                "" if until is None else f"{until:g}: {statistics.median(times):.1f} ({each})",
                f"{median('compile_seconds'):.1f}",
                f"{median('total_seconds'):.1f}",
                f"{failed} of {len(runs)}",
            ]
        )
    columns = ["environment", "M steps/s", "score of each seed", "seconds to score", "compile, s", "cold total, s"]
    return markdown([*columns, "failed"], rows)


def _ablations(records: list[dict[str, Any]]) -> str:
    """A row per arm, at its best learning rate."""
    from benchmarks.ablations import row

    columns = ["arm", "learning rate", "score", "95 %", "M steps/s alone", "compile, s", "score at other rates"]
    title = f"{records[0]['env']}, {records[0]['num_seeds']} seeds, {records[0]['agent_steps'] / 1e6:.1f} million steps"
    return f"{title}\n\n{markdown(columns, [row(record) for record in records])}"


def _seeds(records: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{r['env']} ({r['backend']})",
            f"{r['num_seeds']} of {r['num_envs']:,}",
            *(f"{statistics.median(r[side]) / 1e6:.2f}" for side in ("vmapped", "one_batch")),
            _spread(r["ratio"]),
        ]
        for r in records
    ]
    return markdown(["environment", "seeds, environments each", "vmapped, M steps/s", "one batch", "ratio"], rows)


def _sizes(records: list[dict[str, Any]]) -> str:
    """Training by number of environments, and the roofline of the largest."""
    from benchmarks.gpu import ROOFLINE_COLUMNS, SIZE_COLUMNS, peaks_in_words, roofline_rows, size_rows

    roof = records[-1]["roofline"]
    title = f"An update of {records[-1]['num_envs']:,} environments ({peaks_in_words(roof)})"
    table = markdown(ROOFLINE_COLUMNS, roofline_rows(roof))
    return f"{markdown(SIZE_COLUMNS, size_rows(records))}\n\n{title}\n\n{table}"


def _peers(records: list[dict[str, Any]]) -> str:
    rows = [
        [
            r["comparison"],
            r["setting"],
            *(f"{r[side]['median'] / 1e6:.2f}" for side in ("ours", "theirs")),
            _spread(r["ratio"]),
            f"{peer} {r['theirs']['versions'][peer]}",
        ]
        for r in records
        for peer in [r["peer"].removesuffix("-ppo")]
    ]
    speeds = markdown(["comparison", "setting", "ours, M steps/s", "theirs", "ratio", "peer"], rows, left=2)
    played = [
        [r["comparison"], *(random_play(r[side]["random_play"]) for side in ("ours", "theirs"))]
        for r in records
        if r["ours"].get("random_play")
    ]
    if not played:
        return speeds
    return speeds + "\n\n" + markdown(["random play: reward per step (steps per episode)", "ours", "theirs"], played)


def random_play(played: dict[str, Any]) -> str:
    """What random play of one side gives, in words."""
    length = played["steps_per_episode"]
    return f"{played['reward_per_step']:.5f}" + (f" ({length:,.0f})" if length else "")


def _spread(ratio: dict[str, Any]) -> str:
    return f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['greatest']:.2f})"


def _setting(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"{record['env']}, seed {record['seed']}: {record['error']}"
    hardware, versions = record["hardware"], record["versions"]
    accelerator = f"{record['device']}; " if record.get("platform", "cpu") != "cpu" else ""
    text = f"{accelerator}{hardware['cpu']}, {hardware['cores']} cores, {record['threads']} threads used; "
    text += ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("compiler", "flags"))
    if "compiler" in versions:
        text += f"; {versions['compiler']} `{versions['flags']}`"
    flags = f"; XLA_FLAGS `{record['xla_flags'].strip()}`" if record["xla_flags"].strip() else ""
    return f"{text}{flags}; commit {record['commit']}, load {record['load_before'][0]:.1f} before."


def markdown(columns: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table; all but the first `left` columns flush right."""
    rule = [":--" if i < left else "--:" for i in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, rule, *rows])


if __name__ == "__main__":
    main()
