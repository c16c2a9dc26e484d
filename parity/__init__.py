"""Proof that the C environments and their JAX ports are equal, to the last bit at every step.

`python -m parity` runs it; `docs/parity.md` explains the levels. No module here imports
JAX before `use_mode` has chosen how XLA compiles.
"""

import os
import platform
import sys
from typing import Literal

Mode = Literal["strict", "native"]
STRICT_FLAG = "--xla_cpu_max_isa=AVX"  # an instruction set without fused multiply-add


def use_mode(mode: Mode) -> None:
    """Make XLA compile for the mode; call it before JAX starts its backend.

    In strict mode XLA runs on the CPU, like C, and cannot fuse multiplications into
    additions: its floats equal C's.
    """
    if mode == "native":
        return
    if "jax" in sys.modules and STRICT_FLAG not in os.environ.get("XLA_FLAGS", ""):
        import jax

        if jax._src.xla_bridge.backends_are_initialized():
            raise RuntimeError(f"strict mode needs XLA_FLAGS={STRICT_FLAG} before JAX starts")
    if platform.machine() not in ("x86_64", "AMD64"):
        print(f"warning: strict mode is for x86-64; equal bits cannot be promised on {platform.machine()}")
    os.environ["JAX_PLATFORMS"] = "cpu"  # if there is also a GPU, programs would be compiled for it
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {STRICT_FLAG}".strip()
