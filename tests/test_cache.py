"""Compiled programs: when a process forgets them."""

from pathlib import Path

import jax
import pytest

from jaxpuffer import cache


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux alone limits a process's mappings")
@pytest.mark.parametrize("many", [False, True])
def test_programs_are_dropped_before_a_process_has_no_mappings_left(
    many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @jax.jit
    def double(x: jax.Array) -> jax.Array:
        return 2 * x

    assert double(3) == 6 and double._cache_size() == 1
    monkeypatch.setattr(cache, "MAPPINGS", 0 if many else 10**9)
    cache.drop_programs()
    assert double._cache_size() == (0 if many else 1)
