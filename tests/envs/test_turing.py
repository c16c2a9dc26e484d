"""Turing: the default parameters, steps by hand, and episodes of a program that sees what an agent sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from benchmarks import length_generalisation
from envs_jax.turing import ADD, COPY, LEFT, REVERSE, RIGHT, SORT, STAY, TASKS, Turing
from jaxpuffer import make, rng

ENV = Turing(base=3, max_length=8, length=8)
GAP, LEFT_END, RIGHT_END = 3, 4, 5  # as they are seen with three symbols
STEP = jax.jit(settled_transition)
SEE = jax.jit(Turing.observe)


def at(task, tape, head, written=0, carry=0, env=ENV, steps=0):
    """A state with the symbols `tape`, a text such as "201"."""
    symbols = np.zeros(2 * env.max_length, np.int8)
    symbols[: len(tape)] = [int(x) for x in tape]
    numbers = {
        "task": task,
        "length": len(tape) // 2 if task == ADD else len(tape),
        "head": head,
        "written": written,
        "carry": carry,
        "steps": steps,
    }
    s = env.init(jnp.array([1, 2], jnp.uint32))
    return s.replace(symbols=jnp.asarray(symbols), **{name: jnp.int32(x) for name, x in numbers.items()})


def act(s, move, pen=None, env=ENV):
    """The state after, reward, terminated, truncated; `pen` is the symbol to write, None for nothing."""
    s, out = STEP(env, s, jnp.array([move, 0 if pen is None else 1 + pen], jnp.int32))
    return s, float(out.reward), bool(out.terminated), bool(out.truncated)


def test_default_parameters():
    env = make("turing")
    assert (int(env.task), env.base, int(env.length), int(env.vary_length)) == (TASKS, 2, 4, 1)
    assert (env.max_length, float(env.wrong_reward), int(env.max_steps)) == (16, -1, 0)


# the tape of "201" is | 2 _ 0 _ 1 |, with cells 0 to 6; that of the sum "2112" is | 2 1 _ 1 2 |, with cells 0 to 6
@pytest.mark.parametrize(
    ("task", "tape", "head", "written", "carry", "move", "pen", "head_after", "reward", "terminated"),
    [
        # walking, and the ends
        (COPY, "201", 0, 0, 0, RIGHT, None, 1, 0, False),
        (COPY, "201", 3, 0, 0, LEFT, None, 2, 0, False),
        (COPY, "201", 3, 0, 0, STAY, None, 3, 0, False),
        (COPY, "201", 0, 0, 0, LEFT, None, 0, 0, False),
        (COPY, "201", 6, 0, 0, RIGHT, None, 6, 0, False),
        # over a symbol nothing is written, right or wrong
        (COPY, "201", 1, 0, 0, RIGHT, 2, 2, 0, False),
        (COPY, "201", 1, 0, 0, RIGHT, 0, 2, 0, False),
        # copy: 2, 0, 1, in any gap
        (COPY, "201", 2, 0, 0, RIGHT, 2, 3, 1, False),
        (COPY, "201", 2, 0, 0, RIGHT, 0, 3, -1, True),
        (COPY, "201", 4, 1, 0, RIGHT, 0, 5, 1, False),
        (COPY, "201", 0, 1, 0, RIGHT, 0, 1, 1, False),
        (COPY, "201", 6, 2, 0, STAY, 1, 6, 1, True),
        # reverse: 1, 0, 2
        (REVERSE, "201", 6, 0, 0, LEFT, 1, 5, 1, False),
        (REVERSE, "201", 4, 1, 0, LEFT, 0, 3, 1, False),
        (REVERSE, "201", 2, 2, 0, LEFT, 2, 1, 1, True),
        (REVERSE, "201", 2, 2, 0, LEFT, 1, 1, -1, True),
        # sort: 0, 1, 2
        (SORT, "201", 4, 0, 0, RIGHT, 0, 5, 1, False),
        (SORT, "201", 6, 1, 0, LEFT, 1, 5, 1, False),
        (SORT, "201", 6, 1, 0, LEFT, 0, 5, -1, True),
        (SORT, "2210", 6, 2, 0, LEFT, 2, 5, 1, False),
        (SORT, "2210", 8, 3, 0, LEFT, 2, 7, 1, True),
        # add, base 3: 2 + 1 is 0 and carries 1, 1 + 2 + 1 is 1 and carries 1, which is the last digit
        (ADD, "2112", 3, 0, 0, RIGHT, 0, 4, 1, False),
        (ADD, "2112", 3, 0, 0, RIGHT, 1, 4, -1, True),
        (ADD, "2112", 6, 1, 1, STAY, 1, 6, 1, False),
        (ADD, "2112", 6, 2, 1, STAY, 1, 6, 1, True),
        (ADD, "2112", 6, 2, 1, STAY, 0, 6, -1, True),
        (ADD, "2112", 2, 0, 0, RIGHT, 0, 3, 0, False),
    ],
)
def test_steps_by_hand(task, tape, head, written, carry, move, pen, head_after, reward, terminated):
    s, *outcome = act(at(task, tape, head, written, carry), move, pen)
    assert outcome == [reward, terminated, False]
    correct = int(reward > 0)
    assert int(s.head) == head_after and int(s.written) == written + correct and int(s.steps) == 1
    assert int(s.wrote) == correct and int(s.moved) == (move if head_after != head else STAY)
    assert float(ENV.score(s)) == written + correct


def test_the_carry():
    s, *_ = act(at(ADD, "2112", 3), RIGHT, 0)
    assert int(s.carry) == 1
    s, *_ = act(at(ADD, "2112", 6, written=1, carry=1), STAY, 1)
    assert int(s.carry) == 1
    s, *_ = act(at(ADD, "2110", 6, written=1, carry=1), STAY, 2)
    assert int(s.carry) == 0
    s, *_ = act(at(ADD, "2112", 3), RIGHT)
    assert int(s.carry) == 0


@pytest.mark.parametrize(
    ("task", "tape", "cells"),
    [
        (COPY, "201", [LEFT_END, 2, GAP, 0, GAP, 1, RIGHT_END]),
        (SORT, "1", [LEFT_END, 1, RIGHT_END]),
        (ADD, "2110", [LEFT_END, 2, 1, GAP, 1, 0, RIGHT_END]),
    ],
)
def test_what_is_seen(task, tape, cells):
    for head, cell in enumerate(cells):
        assert SEE(ENV, at(task, tape, head)).tolist() == [cell, STAY, 0, task]
    s, *_ = act(at(COPY, "201", 2), LEFT, 2)
    assert SEE(ENV, s).tolist() == [2, LEFT, 1, COPY]


def test_the_time_limit():
    # five passes over the seven cells
    assert act(at(COPY, "201", 3, steps=34), STAY)[3] and not act(at(COPY, "201", 3, steps=33), STAY)[3]
    short = ENV.replace(max_steps=5)
    assert act(at(COPY, "201", 3, steps=4), STAY, env=short)[3]
    _, reward, terminated, truncated = act(at(COPY, "201", 6, written=2, steps=4), STAY, 1, env=short)
    assert (reward, terminated, truncated) == (1, True, False)


def test_perf_is_the_share_of_the_answer():
    assert float(ENV.perf(at(COPY, "2012", 0, written=3))) == 0.75
    assert float(ENV.perf(at(ADD, "2112", 0, written=3))) == 1.0


def play(env, task, symbols):
    """Perf and end of an episode of a program that sees what an agent sees, and remembers little.

    It remembers the symbols since the last gap, the way it goes, how often it turned, and a sum's carry.
    """
    s = at(task, "".join(map(str, symbols)), 0, env=env)
    crossed, way, turns, carry = [], RIGHT, 0, 0
    for _ in range(200):
        cell = int(SEE(env, s)[0])
        pen, move = None, way
        if cell < env.base:
            crossed.append(cell)
        else:
            if task == COPY or (task == REVERSE and turns == 1):
                pen = crossed[-1] if crossed else None
            elif task == SORT and crossed == [turns]:
                pen = turns
            elif task == ADD and (crossed or cell == env.base + 2):
                carry, pen = divmod(sum(crossed) + carry, env.base)
            if cell == env.base + 2 or (cell == env.base + 1 and crossed):
                way = move = LEFT if way == RIGHT else RIGHT
                turns += 1
            if task == ADD and cell == env.base + 2:
                move = STAY
            crossed = []
        s, _, terminated, truncated = act(s, move, pen, env)
        if terminated or truncated:
            return float(env.perf(s)), terminated
    raise AssertionError("no end")


@given(st.sampled_from([COPY, REVERSE, ADD, SORT]), st.lists(st.integers(0, 2), min_size=2, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_program_with_a_small_memory_writes_the_whole_answer(task, symbols):
    if task == ADD and len(symbols) % 2:
        symbols = symbols[1:]
    assert play(ENV, task, symbols) == (1.0, True)


@given(st.integers(0, 2**32 - 1), st.sampled_from([COPY, REVERSE, ADD, SORT]))
@settings(max_examples=25, deadline=None)
def test_the_answer_is_that_of_python(seed, task):
    env = ENV.replace(task=task)
    s = env.init(jnp.array([seed, 7], jnp.uint32))
    length = int(s.length)
    tape = [int(x) for x in s.symbols]
    used = length * (2 if task == ADD else 1)
    assert not any(tape[used:])
    word = tape[:used]

    if task == ADD:
        a, b = (sum(x * 3**i for i, x in enumerate(word[k::2])) for k in (0, 1))
        answer = [(a + b) // 3**i % 3 for i in range(length + 1)]
    else:
        answer = {COPY: word, REVERSE: word[::-1], SORT: sorted(word)}[task]

    for i, symbol in enumerate(answer):  # at the left end all of it can be written
        assert act(s, STAY, (symbol + 1) % 3, env)[1:] == (-1, True, False)
        s, reward, terminated, _ = act(s, STAY, symbol, env)
        assert reward == 1 and terminated == (i + 1 == len(answer))
    assert float(env.perf(s)) == 1


def test_episodes_are_drawn():
    streams = rng.seed(jax.random.key(0), (4000,))
    s = jax.vmap(ENV.init)(streams)
    for drawn, values in ((s.task, range(4)), (s.length, range(1, 9))):
        counts = np.array([(np.asarray(drawn) == value).mean() for value in values])
        np.testing.assert_allclose(counts, 1 / len(counts), atol=0.03)
    assert len(np.unique(np.asarray(s.symbols)[:, 0])) == 3 and not np.asarray(s.steps).any()

    # fixed, the same words otherwise, whatever room there is on the tape
    fixed = ENV.replace(task=SORT, vary_length=0, length=5)
    other = jax.vmap(fixed.init)(streams[:100])
    assert (other.length == 5).all() and (other.task == SORT).all()
    wide = jax.vmap(fixed.replace(max_length=128).init)(streams[:100])
    np.testing.assert_array_equal(wide.symbols[:, :5], other.symbols[:, :5])
    assert not np.asarray(wide.symbols)[:, 5:].any()


def test_a_length_that_does_not_fit_is_refused_or_held_to_the_tape():
    with pytest.raises(ValueError, match=r"Turing.length is 9; it must be at most max_length \(8\)"):
        ENV.replace(length=9)
    lengths = jax.jit(
        jax.vmap(lambda n: ENV.replace(length=n, vary_length=0).init(jnp.array([1, 2], jnp.uint32)).length)
    )
    assert lengths(jnp.array([1, 4, 8, 9, 500], jnp.int32)).tolist() == [1, 4, 8, 8, 8]


def test_picture():
    picture = ENV.render(at(COPY, "201", 2))
    assert picture.shape == (120, 400, 3) and picture.dtype == jnp.uint8
    for other in (at(COPY, "201", 3), at(COPY, "211", 2), at(COPY, "201", 2, written=1)):
        assert not np.array_equal(picture, ENV.render(other))


def test_the_figure_of_lengths_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    perf = {task: [1.0, 0.5, 0.25] for task in length_generalisation.TASKS}
    agents = [("mingru", 0), ("mingru", 1), ("mlp", 0)]
    records = [
        {
            "policy": policy,
            "seed": seed,
            "trained_length": 4,
            "lengths": [1, 4, 16],
            "perf": perf,
            "train_seconds": 60.0,
        }
        for policy, seed in agents
    ]
    length_generalisation.draw(records, tmp_path / "figures" / "lengths.png")
    assert (tmp_path / "figures" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert length_generalisation.row(records[1]) == ["mingru", "1", "0.250", "0.250", "0.250", "0.250", "60"]


@pytest.mark.full
def test_an_agent_is_trained_and_evaluated_at_every_length(monkeypatch):
    monkeypatch.setattr(length_generalisation, "EVALUATED", 16)
    agent = length_generalisation.trained("mlp", 0, 2, 65_536, "jax")
    record = length_generalisation.tested(*agent, 0, [1, 5])
    assert set(record["perf"]) == set(length_generalisation.TASKS)
    assert all(len(shares) == 2 and min(shares) >= 0 and max(shares) <= 1 for shares in record["perf"].values())
    assert record["config"]["policy"] == "mlp" and record["agent_steps"] == 65_536


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--policies gru", "no such policy: gru"),
        ("--lengths 4,200", "a length is above 128"),
        ("--seeds 0", "0 is too small"),
        ("--shipped --seeds 1", "that agent is trained already"),
    ],
)
def test_wrong_arguments_of_the_figure_are_refused(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["length_generalisation", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        length_generalisation.main()
    assert says in capsys.readouterr().err
