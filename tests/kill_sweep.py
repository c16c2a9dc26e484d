"""python tests/kill_sweep.py [KILLS]: a sweep of two workers, one of which is killed again and again at random times.

No trial may be lost or counted twice: the sweep must end with exactly as many results as were asked for, and each trial
of a killed worker must be repeated once, with the same parameters.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRIALS = 60
SPACE = """
[learning_rate]
scale = "log"
min = 0.001
max = 0.02
[entropy_coefficient]
scale = "log"
min = 0.001
max = 0.1
"""
CONFIG = "total_steps = 3_000_000\n"


def workers(parent: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def main(kills: int = 10) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "space.toml").write_text(SPACE)
        (Path(folder) / "base.toml").write_text(CONFIG)
        out = Path(folder) / "sweep"
        command = [sys.executable, "-m", "jaxpuffer", "sweep", "cartpole", "--out", str(out), "--trials", str(TRIALS)]
        command += ["--space", f"{folder}/space.toml", "--config", f"{folder}/base.toml", "--workers", "2"]
        command += ["--population", "2", "--pruner", "none"]
        sweep = subprocess.Popen(command)
        draw, done = random.Random(time.time()), 0
        while sweep.poll() is None and done < kills:
            time.sleep(draw.uniform(10, 25))
            if alive := workers(sweep.pid):
                victim = draw.choice(alive)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    done += 1
                    print(f"killed worker {victim} ({done} of {kills})", flush=True)
        assert sweep.wait() == 0, sweep.returncode
        check(out, done)


def check(out: Path, kills: int) -> None:
    import optuna

    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{out}/study.db")
    trials = study.get_trials()
    lost = {t.number: t for t in trials if t.user_attrs.get("lost")}
    kept = [t for t in trials if t.number not in lost]
    states = [t.state.name for t in kept]
    assert states == ["COMPLETE"] * TRIALS, states
    repeats = [t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs]
    assert sorted(repeats) == sorted(lost), (repeats, sorted(lost))
    for trial in trials:
        if "retry_of" in trial.user_attrs:
            assert trial.params == lost[trial.user_attrs["retry_of"]].params, trial
    different = {tuple(sorted(t.params.items())) for t in kept}
    assert len(different) == TRIALS, len(different)
    print(f"{TRIALS} trials, each run to its end once; {kills} kills, {len(lost)} trials began anew")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
