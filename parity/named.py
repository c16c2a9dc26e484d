"""Environments by name: registered ones, and those of a user's module, such as my_package.my_env or my_env:Corridor."""

import importlib
import importlib.util
import inspect
import sys
from typing import Any

from jaxpuffer import make
from jaxpuffer.env import Env
from jaxpuffer.registry import ENVS, env_class


def class_of(name: str) -> type[Env]:
    """The JAX class: of a registered name, or that of a module, which names its C header (`Env.header`).

    Raises:
        ValueError: there is no such environment or module, or the module has none with a header, or several.
    """
    module_name, _, wanted = name.partition(":")
    if name in ENVS:
        return env_class(name)
    if "" not in sys.path:
        sys.path.insert(0, "")  # as for python -m
    try:
        found = importlib.util.find_spec(module_name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        return env_class(name)  # says what there is
    module = importlib.import_module(module_name)
    classes = [x for x in vars(module).values() if inspect.isclass(x) and x.__module__ == module.__name__]
    own = {cls.__name__: cls for cls in classes if issubclass(cls, Env) and cls.header is not None}
    if wanted and wanted in own:
        return own[wanted]
    if len(own) != 1 or wanted:
        has = f"it has {', '.join(own)}: name one, as in {module_name}:{min(own)}" if own else "it has none"
        raise ValueError(f"{module_name} must have one environment whose attribute header names its C twin; {has}")
    return next(iter(own.values()))


def make_both(name: str, **params: Any) -> tuple[Any, Any]:
    """The environment in JAX and in C."""
    given: Any = name if name in ENVS else class_of(name)()
    return make(given, **params), make(given, backend="c", **params)


def check_names_of(names: list[str], refuse: Any) -> None:
    """Call `refuse` with a message if a name is not an environment's."""
    for name in names:
        try:
            class_of(name)
        except ValueError as error:
            refuse(str(error))
