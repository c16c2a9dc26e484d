"""Linear recurrences against plain loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpuffer.recurrence import WRITTEN_OUT, recur


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("time", [1, 5, WRITTEN_OUT, 2 * WRITTEN_OUT + 3])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_it_is_a_loop(backend: str, time: int, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    draw = np.random.default_rng(time)
    start, decay, add = draw.normal(size=3), draw.uniform(size=(time, 3)), draw.normal(size=(time, 3))
    expected, h = np.zeros((time, 3)), start
    for t in reversed(range(time)) if reverse else range(time):
        expected[t] = h = decay[t] * h + add[t]

    operands = [jnp.float32(x) for x in (start, decay, add)]
    program = jax.jit(lambda *args: recur(*args, reverse=reverse)).lower(*operands)
    assert ("stablehlo.while" in program.as_text()) == (backend == "cpu" or time > WRITTEN_OUT)
    got = program.compile()(*operands)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
