"""The environments in plain C, and `VecEnv`: batches of them over NumPy arrays.

This module does not import `jaxpuffer`: `VecEnv`, from `jaxpuffer.vec_env`, is loaded on first use.
"""

import importlib
import pkgutil
from typing import Any

# if a copy of a checkout is installed, the C half is in the copy
__path__ = pkgutil.extend_path(__path__, __name__)

try:
    import envs_c._core  # noqa: F401
except ImportError as error:
    if "_core" not in str(error):
        raise  # it exists, and is broken
    _BUILT = False
else:
    _BUILT = True

__all__ = ["NOT_BUILT", "VecEnv", "is_built", "require_built"]


def __getattr__(name: str) -> Any:
    if name == "VecEnv":
        return importlib.import_module("jaxpuffer.vec_env").VecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


NOT_BUILT = (
    f"the C environments are not built in {__path__[0]}: no C compiler was found when jaxpuffer was installed, or this "
    "is a checkout of which a copy was installed. With a compiler (for example gcc) install again, a checkout with "
    "`pip install -e .`; or use backend='jax'."
)


def is_built() -> bool:
    """Whether the C environments were compiled when the package was installed."""
    return _BUILT


def require_built() -> None:
    """Raise ImportError, which says what to do, unless the C environments are installed."""
    if not _BUILT:
        raise ImportError(NOT_BUILT)
