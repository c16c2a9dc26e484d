"""Every C environment, at every extreme of its parameters, played at random.

Under the sanitizers (tests/sanitize.sh) this shows that nothing reads or writes out of
bounds and that no behaviour is undefined; here it shows that the results are in the spaces.
"""

import jax
import numpy as np
import pytest

import envs_c
from jaxpuffer import list_envs, make
from jaxpuffer.pytree import parameter_fields
from jaxpuffer.spaces import choices

pytestmark = pytest.mark.needs_c

STEPS, NUM_ENVS = 300, 6


def extremes(name: str) -> list[dict]:
    """Parameter settings: the defaults, and each parameter alone at its minimum and maximum."""
    settings: list[dict] = [{}]
    env = make(name)
    for field, kind in parameter_fields(type(env)):
        default = float(getattr(env, field.name))
        for bound, otherwise in (("minimum", default - 10), ("maximum", default * 10 + 10)):
            limit = field.metadata[bound]
            settings.append({field.name: kind(otherwise if limit is None else limit)})
    return settings


CASES = [(name, setting) for name in list_envs() for setting in extremes(name)]


@pytest.mark.parametrize(("name", "params"), CASES, ids=[f"{n}-{p}" for n, p in CASES])
def test_random_play(name: str, params: dict) -> None:
    try:
        make(name, **params)
    except ValueError as error:
        # an extreme that does not fit the other defaults must be refused by name
        assert next(iter(params)) in str(error) or "must be" in str(error)
        return
    one, two = (envs_c.VecEnv(name, NUM_ENVS, threads=threads, **params) for threads in (1, 2))
    one.reset(seed=3)
    two.reset(seed=3)
    generator = np.random.default_rng(0)
    shape = (NUM_ENVS, *one.env.agent_shape, *one.single_action_space.shape)
    default = not params
    for _ in range(STEPS):
        if of := choices(one.single_action_space):
            actions = generator.integers(0, of if len(of) > 1 else of[0], shape).astype(np.int32)
        else:
            actions = generator.normal(size=shape).astype(np.float32)
        obs, reward, terminated, truncated, info = one.step(actions)
        two.step(actions)
        assert not (terminated & truncated).any()
        ended = terminated | truncated
        assert ((info["log"][..., 4] == 1) == (ended & info.get("active", True))).all()
        if default:
            assert np.isfinite(reward).all()
            assert one.single_observation_space.contains(obs)
            last = jax.tree.map(lambda x, ended=ended: x[ended], info["final_obs"])
            assert one.single_observation_space.contains(last) or not ended.any()
    for field in one.state.dtype.names:
        np.testing.assert_array_equal(one.state[field], two.state[field])
