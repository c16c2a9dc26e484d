"""Fast reinforcement-learning environments, and a PPO that trains on them in one jitted program."""

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxpuffer.public import *  # noqa: F403

try:
    __version__ = importlib.metadata.version("jaxpuffer")
except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
    __version__ = "unknown"


BOTH = ("animate", "evaluate", "fit")  # functions that have the names of their modules


class _Package(types.ModuleType):
    """The package, whose names are imported at their first use, so that looking at runs does not wait for JAX."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and importlib.util.find_spec(f"{self.__name__}.{name}"):
            importlib.import_module(f"{self.__name__}.{name}")
            return vars(self)[name]
        if not name.startswith("_") or name == "__all__":
            public = importlib.import_module(f"{self.__name__}.public")
            if hasattr(public, name):
                return getattr(public, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # importing fit.py sets the module; here that name is the function
        super().__setattr__(
            name, getattr(value, name) if name in BOTH and isinstance(value, types.ModuleType) else value
        )

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__all__]


sys.modules[__name__].__class__ = _Package
