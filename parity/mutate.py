"""python -m parity.mutate [ENV ...]: would the parity harness detect a wrong port?

Every numeric constant, comparison and arithmetic operator in the computing code of a JAX port is
changed, one at a time, and each of these mutants is compared with the results of the C port
on a few thousand states: states in which an event of `env.events` happens, random ones, and
states set exactly to the bounds of comparisons.

The computing code is `init`, `transition`, `respawn`, `observe`, `score`, `perf`,
`action_mask`, and the functions and module constants that these use. Not changed: the
picture, the player, the events, annotations, parameter declarations and class attributes
that are not functions (such as spaces), `raise` and `assert`.

A mutant is caught when anything differs (-0 equals 0), or it raises, or does not return.
equivalent_mutants.toml has the reasons why some cannot be caught: of the registered environments the file beside
this one, of your own the file beside its module, with the header's name without `.h` as the table's.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import sys
import tempfile
import time
import tomllib
import traceback
import types
from pathlib import Path
from typing import Any

import numpy as np

from parity import use_mode
from parity.mutants import FUNCTIONS, Mutant, Source
from parity.proven import is_proven
from parity.states import Data, play

REASONS = Path(__file__).with_name("equivalent_mutants.toml")
REQUIRED = 0.95  # least share of mutants caught, of those that are not equivalent
SECONDS = 60  # a mutant that takes longer does not return
START_SECONDS = 900  # for the data and the check of the port itself


class Judge:
    """Compares a changed module with the results of C."""

    def __init__(self, source: Source, datas: list[Data]) -> None:
        from jaxpuffer import rng  # noqa: F401  (starts JAX before the clock runs)

        self.source, self.datas = source, datas
        self.programs: dict[tuple[int, str], str] = {}
        found = self.judge(None)
        if found != "survived":
            raise RuntimeError(f"the port itself differs from C, so no mutant can be judged: {found}")

    def judge(self, mutant: Mutant | None) -> str:
        """'caught: why', 'survived', or 'same program' if all functions compile to the same program."""
        verdict = "same program"
        try:
            module = self.source.module(mutant)
            for i, data in enumerate(self.datas):
                for function in FUNCTIONS if mutant is None else mutant.judged_by:
                    if function in data.functions:
                        found = self._judge(module, i, function, note=mutant is None)
                        if found.startswith("caught"):
                            return found
                        if found == "survived":
                            verdict = found
        except Exception as error:
            return f"caught: {type(error).__name__}"
        return verdict

    def _judge(self, module: types.ModuleType, i: int, function: str, note: bool) -> str:
        import jax

        data = self.datas[i]
        env = getattr(module, self.source.cls.__name__)(**data.params)
        operands, expected = data.functions[function]
        program = jax.jit(_callable(module, function)).lower(env, operands)
        text = hashlib.sha256(program.as_text().encode()).hexdigest()
        if note:
            self.programs[i, function] = text
        elif text == self.programs[i, function]:
            return "same program"
        shapes = [(x.shape, x.dtype) for x in jax.tree.leaves(program.out_info)]
        if shapes != [(x.shape, x.dtype) for x in expected]:
            return f"caught: {function} returns other shapes or types"
        for got, right in zip(jax.tree.leaves(program.compile()(env, operands)), expected, strict=True):
            if not (np.asarray(got) == right).all():
                return f"caught: {function}"
        return "survived"


def _callable(module: types.ModuleType, function: str) -> Any:
    """One function of an environment over rows; states are given as their leaves."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer.env import settle

    def state(env: Any, leaves: list[Any]) -> Any:
        # the changed module has its own State class
        shapes = jax.eval_shape(env.init, jax.ShapeDtypeStruct((2,), jnp.uint32))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    def over_rows(env: Any, operands: list[Any]) -> Any:
        def one(*operands: Any) -> Any:
            if function == "init":
                return env.init(*operands)
            s = state(env, operands[0])
            if function == "transition":
                active = env.active(s)
                s, outcome = env.transition(s, operands[1])
                outcome = settle(outcome, active, env.active(s))
                return s, outcome.reward, outcome.terminated, outcome.truncated
            value = getattr(env, function)(s, *operands[1:])
            return jax.tree.map(jnp.float32, value) if function in ("score", "perf", "figures") else value

        return jax.vmap(one)(*operands)

    return over_rows


def _work(connection: Any, name: str, seed: int, file: str) -> None:
    """A process that receives indices of mutants and judges them."""
    use_mode("strict")
    import jax

    from parity.named import class_of

    source = Source(class_of(name))
    try:
        if not os.path.exists(file):
            constants = source.constants()
            datas = [play(name, seed, params, constants) for params in ({}, *class_of(name).variants)]
            Path(file).write_bytes(pickle.dumps(datas))
        datas = pickle.loads(Path(file).read_bytes())
        # from here on there are hundreds of programs that run once: compile them fast
        jax.config.update("jax_disable_most_optimizations", True)
        judge = Judge(source, datas)
    except Exception:
        connection.send(traceback.format_exc())
        return
    connection.send([data.events for data in datas])
    for count in range(1_000_000):
        index = connection.recv()
        if index is None:
            return
        connection.send(judge.judge(source.mutants[index]))
        if count % 50 == 49:
            jax.clear_caches()


@dataclasses.dataclass
class Summary:
    """The results of an environment's mutants."""

    env: str
    mutants: int
    caught: int
    equivalent: list[str]
    survived: list[str]
    stale: list[str]  # reasons given for mutants that are caught, or that do not exist
    unseen_events: list[str]
    seconds: float

    @property
    def share(self) -> float:
        return self.caught / max(1, self.mutants - len(self.equivalent))

    @property
    def good(self) -> bool:
        return self.share >= REQUIRED and not self.stale

    def line(self) -> str:
        return (
            f"{self.env}: {self.mutants} mutants, {self.caught} caught ({100 * self.share:.1f} %), "
            f"{len(self.equivalent)} equivalent, {len(self.survived)} survived ({self.seconds:.0f} s)"
        )


def judge_all(name: str, sample: int | None = None, seed: int = 0) -> Summary:
    """Judge every mutant of an environment, or a sample, in a process that may hang or die.

    Raises:
        RuntimeError: the port itself differs from C.
    """
    from jaxpuffer.registry import ENVS
    from parity.named import class_of

    started = time.perf_counter()
    source = Source(class_of(name))
    mutants = source.mutants
    chosen = list(range(len(mutants)))
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, sample))
    file, table = REASONS, name
    if name not in ENVS:
        file, table = Path(source.file).with_name(REASONS.name), Path(str(class_of(name).header)).stem
    listed = tomllib.loads(file.read_text()).get(table, []) if file.exists() else []
    reasons = {(r["in"], r["line"], r["change"]): r["reason"] for r in listed}
    known = {m.key for m in mutants}
    stale = [f"no such mutant: {key}" for key in reasons if key not in known]

    context = multiprocessing.get_context("spawn")
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        worker: Any = None
        pipe: Any = None
        unseen: list[str] = []
        for index in chosen:
            if worker is None:
                pipe, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, name, seed, f"{folder}/data"), daemon=True)
                worker.start()
                theirs.close()
                found = _answer(pipe, START_SECONDS)
                if not isinstance(found, list):
                    worker.kill()
                    raise RuntimeError(f"{name}: the judge of the mutants failed: {found}")
                unseen = [event for event in found[0] if not any(counts[event] for counts in found)]
            pipe.send(index)
            verdicts[index] = _answer(pipe, SECONDS)
            if verdicts[index] in (_LATE, _GONE):
                worker.kill()
                worker.join()
                worker = None
        if worker is not None:
            pipe.send(None)
            worker.join(10)
            worker.kill()

    caught, equivalent, survived = 0, [], []
    for index, verdict in verdicts.items():
        mutant = mutants[index]
        if verdict in (_LATE, _GONE) or verdict.startswith("caught"):
            caught += 1
            if mutant.key in reasons:
                stale.append(f"listed as equivalent, but caught: {mutant}")
        elif mutant.key in reasons:
            equivalent.append(f"{mutant}  ({reasons[mutant.key]})")
        elif verdict == "same program":
            equivalent.append(f"{mutant}  (it compiles to the same program)")
        else:
            survived.append(str(mutant))
    return Summary(name, len(chosen), caught, equivalent, survived, stale, unseen, time.perf_counter() - started)


_LATE, _GONE = "did not return", "died"


def _answer(pipe: Any, seconds: float) -> Any:
    try:
        return pipe.recv() if pipe.poll(seconds) else _LATE
    except EOFError:
        return _GONE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parity.mutate", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("envs", nargs="*", metavar="ENV", help="environments; default all")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="judge only N mutants of each environment, drawn at random"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the play and of the sample (%(default)s)")
    parser.add_argument(
        "--changed", action="store_true", help="leave out what has not changed (python -m parity.proven)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the summaries there")
    args = parser.parse_args()
    if args.sample is not None and args.sample < 1:
        parser.error("--sample must be at least 1")
    use_mode("strict")
    from envs_c import NOT_BUILT, is_built
    from jaxpuffer import list_envs
    from parity.named import check_names_of

    check_names_of(args.envs, parser.error)
    if not is_built():
        parser.error(NOT_BUILT)
    summaries = []
    names = [name for name in args.envs or list_envs() if not (args.changed and is_proven(name))]
    if not names:
        print("no environment has changed since it was proven")
    for name in names:
        summary = judge_all(name, args.sample, args.seed)
        summaries.append(summary)
        print(summary.line(), flush=True)
        for title, entries in (
            ("survived", summary.survived), ("equivalent", summary.equivalent), ("STALE", summary.stale),
            ("event not reached", summary.unseen_events),
        ):  # fmt: skip
            for entry in entries:
                print(f"  {title}: {entry}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump([{**dataclasses.asdict(s), "share": s.share} for s in summaries], file, indent=1)
    sys.exit(not all(summary.good for summary in summaries))


if __name__ == "__main__":
    main()
