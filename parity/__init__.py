"""Proof that the C environments and their JAX ports are equal, bit for bit and step for step.

`python -m parity` runs it; `docs/parity.md` explains the levels. Nothing here imports
JAX before `use_mode` has chosen how XLA compiles.
"""

import os
import platform
import sys
from typing import Literal

Mode = Literal["strict", "native"]
STRICT_FLAG = "--xla_cpu_max_isa=AVX"  # an instruction set without fused multiply-add


def use_mode(mode: Mode) -> None:
    """Make XLA compile as the mode says; to be called before JAX starts its backend.

    In strict mode XLA runs on the CPU, as C does, and cannot fuse multiplications into
    additions: its floats are C's.
    """
    if mode == "native":
        return
    if "jax" in sys.modules and STRICT_FLAG not in os.environ.get("XLA_FLAGS", ""):
        import jax

        if jax._src.xla_bridge.backends_are_initialized():
            raise RuntimeError(f"strict mode needs XLA_FLAGS={STRICT_FLAG} before JAX starts")
    if platform.machine() not in ("x86_64", "AMD64"):
        print(f"warning: strict mode is for x86-64; equal bits cannot be promised on {platform.machine()}")
    os.environ["JAX_PLATFORMS"] = "cpu"  # where there is a GPU too, programs would be written for it
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {STRICT_FLAG}".strip()
