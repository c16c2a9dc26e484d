"""rng.py and rng.h: the same stream, xoroshiro64** as published, drawn from without bias."""

import ctypes
import functools
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from jaxpuffer import rng

HEADERS = Path(__file__).resolve().parents[1] / "envs_c"
STREAMS, DRAWS = 1_000, 1_000  # a million draws

C_LOOPS = """
#include "rng.h"
#define LOOP(name, type, argument_type, draw) \\
  void loop_##name(uint32_t *streams, const argument_type *argument, type *drawn, int64_t streams_n, int64_t draws) { \\
    for (int64_t i = 0; i < streams_n; i++) { \\
      uint32_t *stream = streams + 2 * i; \\
      for (int64_t k = 0; k < draws; k++) drawn[draws * i + k] = draw; \\
    } \\
  }
LOOP(bits, uint32_t, float, (void)argument; drawn[draws * i + k] = rng_bits(stream))
LOOP(float, float, float, (void)argument; drawn[draws * i + k] = rng_float(stream))
LOOP(uniform, float, float, rng_uniform(stream, argument[0], argument[1]))
LOOP(below, int32_t, int32_t, rng_below(stream, argument[k]))
LOOP(bernoulli, int32_t, float, rng_bernoulli(stream, argument[0]))
void loop_shuffle(uint32_t *streams, int32_t *items, int64_t streams_n, int64_t n) {
  for (int64_t i = 0; i < streams_n; i++) rng_shuffle(streams + 2 * i, items + n * i, (int32_t)n);
}
"""
