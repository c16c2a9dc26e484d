"""Kill runs at random moments; run by hand: python tests/kill_runs.py [SIGTERMS SIGKILLS FULL_DISKS PAIRS].

What was readable before must be readable after. A run that was ended many times must be equal, to the last bit, to a
run that was never ended, after the same number of updates. Full disks are a small tmpfs, which only root can mount.
"""

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

TRAIN = """
import sys; sys.path += {paths!r}
import jax
from toy_envs import Corridor, tiny_config
from jaxpuffer import fit
from jaxpuffer.writers import CSV
config = tiny_config(total_steps=10**9)
fit(Corridor(), jax.random.key(0), config, directory=sys.argv[1], resume=True, progress=False, save_every_seconds=0.3,
    log=[CSV(), lambda steps, means: print(steps, flush=True)])
"""


def start(run: Path) -> subprocess.Popen:
    """A process that trains in `run`, and has already begun."""
    code = TRAIN.format(paths=sys.path[-2:])
    command = [sys.executable, "-c", code, str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen, number: int, seconds: float) -> int:
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(number)
    process.communicate()
    return process.returncode


def main() -> None:
    terms, kills, disks, pairs = map(int, sys.argv[1:] or (20, 20, 10, 10))
    import jax
    import jax.numpy as jnp
    import numpy as np
    from toy_envs import Corridor

    from jaxpuffer import load
    from jaxpuffer.ppo import init
    from jaxpuffer.runs import read_metrics, read_run, table
    from jaxpuffer.trainer import MAX_CHUNK, _chunk

    def readable(run: Path) -> None:
        """What a run says about itself can be read; each step was reported once."""
        row = read_run(run)
        assert row["state"] in ("interrupted", "not saved"), row
        steps = read_metrics(run)["agent_steps"]
        assert len(steps) and (np.diff(steps) > 0).all() and steps[-1] >= (row["saved_steps"] or 0), steps
        frame = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
        assert [int(line["agent_steps"]) for line in frame][: len(steps)] == steps.tolist()

    def exact(run: Path) -> int:
        """The updates of a run, after checking that it equals one that was never ended."""
        saved = load(run, Corridor())
        env, config, module = saved.env, saved.config, saved.policy.module
        state, left = (
            jax.jit(init, static_argnames="module")(env, jax.random.key(0), config, module),
            int(saved.state.updates),
        )
        while left:
            count = min(left, MAX_CHUNK)
            state, _ = _chunk(env, state, config, jnp.int32(count), module, None)
            left -= count
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(saved.state), strict=True):
            np.testing.assert_array_equal(a, b)
        return int(saved.state.updates)

    random.seed(0)
    folder = Path(tempfile.mkdtemp())
    for number, count in ((signal.SIGTERM, terms), (signal.SIGKILL, kills)):
        run, before = folder / number.name, 0
        for _ in range(count):
            code = end(start(run), number, random.uniform(0, 1.5))
            assert code == (143 if number == signal.SIGTERM else -signal.SIGKILL), code
            readable(run)
            if (run / "run.json").exists():
                updates = int(load(run, Corridor()).state.updates)
                assert updates >= before, (updates, before)
                before = updates
            assert before or number == signal.SIGKILL
        if count:
            assert (run / "run.json").exists(), (
                "this machine is too slow for a save before a kill; ask for more of them"
            )
            print(number.name, count, "times: exact after", exact(run), "updates;", sorted(os.listdir(run)))

    for i in range(disks):
        disk = folder / f"disk-{i}"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=True)
        try:
            process = start(disk / "run")
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0.3, 1.5))
            with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:  # to the last byte
                while True:
                    filler.write(b"0" * 4096)
            time.sleep(1.0)
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate()
            assert process.returncode == 143, error
            if (disk / "run/run.json").exists():
                load(disk / "run", Corridor())
            assert table(disk)[0]["state"] in ("interrupted", "not saved")
            if (disk / "run/metrics.jsonl").exists():
                assert (np.diff(read_metrics(disk / "run")["agent_steps"]) > 0).all()
            print("full disk", i, "saved before it:", (disk / "run/run.json").exists(), error.strip()[-150:])
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    for i in range(pairs):
        run = folder / f"pair-{i}"
        both = [start(run), start(run)]
        while all(p.poll() is None for p in both):
            time.sleep(0.1)
        refused = both[0] if both[0].poll() is not None else both[1]
        other = both[1] if refused is both[0] else both[0]
        _, error = refused.communicate()
        assert refused.returncode == 1 and "is being written by" in error.splitlines()[-1], error
        assert end(other, signal.SIGTERM, 0.3) == 143
        load(run, Corridor())
    print("pairs", pairs, "one refused each time")


if __name__ == "__main__":
    main()
