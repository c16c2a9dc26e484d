"""Run by test_sharding.py in separate processes, since a process has its devices from the start; prints JSON."""

import json
import re
import sys
from typing import Any

import jax
import numpy as np

from jaxpuffer import PPOConfig, fit, make, train
from jaxpuffer.policy import make_module
from jaxpuffer.sharding import _train_on, data_mesh, train_on


def config() -> PPOConfig:
    return PPOConfig(total_steps=12 * 2048, num_envs=128, horizon=16, minibatch_size=512, hidden=16)


def outcome(result: Any) -> dict[str, Any]:
    """Metrics and parameters, which are complete on every process."""
    leaves = jax.tree.leaves(result.policy.params)
    numbers = {name: np.asarray(x).tolist() for name, x in result.metrics.items()}
    return numbers | {f"parameter {i}": np.asarray(x).ravel().tolist() for i, x in enumerate(leaves)}


def local(backend: str) -> dict[str, Any]:
    env, key = make("cartpole", backend=backend), jax.random.key(0)
    parted = config().replace(microbatch_size=32)  # of a device's 64
    one, eight = train(env, key, config()), train_on(env, key, parted, mesh=data_mesh())
    module = make_module(env, parted)
    program = _train_on.lower(env, key, parted, module, data_mesh()).compile().as_text()
    collectives = set(re.findall(r"\b(all-\w+|collective-\w+|reduce-scatter)\(", program))
    for several in (4, 8):
        assert len(data_mesh(jax.devices()[:several]).devices) == several
    return {
        "one": outcome(one),
        "eight": outcome(eight),
        "episodes": float(np.sum(one.metrics["episodes"])),
        "collectives": sorted(collectives),
    }


def interrupted(backend: str, folder: str) -> dict[str, Any]:
    env, key = make("cartpole", backend=backend), jax.random.key(0)
    settings: dict[str, Any] = {"directory": folder, "progress": False, "mesh": data_mesh()}

    def stop(steps: int, means: dict[str, float]) -> None:
        raise KeyboardInterrupt

    first = fit(env, key, config(), **settings, log=stop)
    try:
        fit(env, key, **settings | {"mesh": None}, resume=True)
    except ValueError as error:
        refusal = str(error)
    # a score that is never reached: the policy is evaluated during training
    whole = fit(env, key, **settings, resume=True, stop_at_score=1000.0)
    straight = fit(env, key, config(), progress=False, mesh=data_mesh())
    return {
        "first updates": int(first.state.updates),
        "refusal": refusal,
        "resumed": outcome(whole),
        "straight": outcome(straight),
        "one": outcome(train(env, key, config())),
        "devices": [len(x.devices()) for x in (whole.state.updates, *jax.tree.leaves(whole.policy.params))],
    }


def fitted(port: str, number: str, folder: str) -> dict[str, Any]:
    """One of two processes: train_on, and a run that is interrupted in the first one alone, and goes on."""
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
    assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
    env, key = make("cartpole"), jax.random.key(0)
    trained = outcome(train_on(env, key, config(), mesh=data_mesh()))
    settings: dict[str, Any] = {"directory": folder, "progress": False, "mesh": data_mesh(), "keep": 2}
    calls = []

    def stop(steps: int, means: dict[str, float]) -> None:
        calls.append(steps)
        raise KeyboardInterrupt

    first = fit(env, key, config(), **settings, log=stop)
    every = 4 * config().batch_size
    scores: list[float] = []
    whole = fit(
        env, key, **settings, resume=True, evaluate_every=every, evaluate_episodes=8,
        log=lambda steps, means: scores.extend([means["evaluated_score"]] if "evaluated_score" in means else []),
    )  # fmt: skip
    about = {"first updates": int(first.state.updates), "calls": len(calls), "scores": scores}
    return outcome(whole) | about | {"trained": trained}


def alone() -> dict[str, Any]:
    return outcome(train(make("cartpole"), jax.random.key(0), config()))


if __name__ == "__main__":
    tasks = {"local": local, "interrupted": interrupted, "fitted": fitted, "alone": alone}
    print(json.dumps(tasks[sys.argv[1]](*sys.argv[2:])))
