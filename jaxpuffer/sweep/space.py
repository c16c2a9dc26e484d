"""Spaces of configurations: from a TOML file to Optuna's distributions, and from a trial's parameters to a config.

    [learning_rate]          # a field of PPOConfig
    scale = "log"            # linear, integer, power_of_two, log, or logit (for fields near 1)
    min = 0.001
    max = 0.1

    [policy]
    choices = ["mlp", "mingru"]

    [env.ball_speed]         # a parameter of the environment
    scale = "linear"
    min = 200
    max = 400

Each sampler sees a parameter on the scale on which it should search: powers of two as `log2 NAME`, an exponent, and
logits as `1 - NAME`, on a log scale.
"""

import difflib
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from jaxpuffer.config import NOT_ZERO, PPOConfig
from jaxpuffer.config_file import as_toml, plain, read_toml
from jaxpuffer.pytree import Parameters, parameter_fields

SCALES = ("linear", "integer", "power_of_two", "log", "logit")
COST_PARAMETER = "total_steps"
MOST_INT = 2**53  # the samplers compute with float64

# PufferLib 5.0's ranges, and by what factor at most a default space goes beyond the tuned value in each direction
_DEFAULT: dict[str, tuple[str, float, float, float]] = {
    "total_steps": ("log", 1e4, 1e11, 4),
    "num_envs": ("power_of_two", 16, 16384, 4),
    "horizon": ("power_of_two", 8, 512, 4),
    "minibatch_size": ("power_of_two", 256, 65536, 4),
    "hidden": ("power_of_two", 32, 1024, 4),
    "layers": ("integer", 1, 8, 2),
    "update_epochs": ("log", 0.25, 4, 4),
    "learning_rate": ("log", 1e-4, 1, 8),
    "momentum": ("logit", 0.5, 0.999, 8),
    "max_grad_norm": ("log", 0.1, 1.5, 8),
    "gamma": ("logit", 0.8, 0.9999, 8),
    "gae_lambda": ("logit", 0.2, 0.995, 8),
    "clip": ("linear", 0.1, 0.9, 8),
    "value_coefficient": ("log", 0.1, 4, 8),
    "entropy_coefficient": ("log", 1e-5, 0.1, 8),
}


class Parameter:
    """One parameter of a space: a field of the config or, with `env.` in front, of the environment."""

    def __init__(self, name: str, scale: str, low: float, high: float, choices: tuple[Any, ...], kind: type) -> None:
        self.name, self.scale, self.low, self.high, self.choices, self.kind = name, scale, low, high, choices, kind
        self.key = {"power_of_two": f"log2 {name}", "logit": f"1 - {name}"}.get(scale, name)  # in a trial

    @property
    def distribution(self) -> BaseDistribution:
        """Optuna's distribution of the parameter in a trial."""
        if self.scale == "choices":
            return CategoricalDistribution(self.choices)
        if self.scale == "integer":
            return IntDistribution(int(self.low), int(self.high))
        if self.scale == "power_of_two":
            return IntDistribution(round(math.log2(self.low)), round(math.log2(self.high)))
        if self.scale == "logit":
            return FloatDistribution(_short(1 - self.high), _short(1 - self.low), log=True)
        return FloatDistribution(self.low, self.high, log=self.scale == "log")

    def value(self, found: Any) -> Any:
        """The field's value, from that of the trial."""
        if self.scale == "choices":
            return found
        value = natural(self.key, found)
        return round(value) if self.kind is int else float(value)

    def found(self, value: Any) -> Any:
        """The inverse of `value`."""
        if self.scale == "power_of_two":
            return round(math.log2(value))
        if self.scale == "logit":
            return _short(1 - value)
        return value if self.scale == "choices" else int(value) if self.scale == "integer" else float(value)

    def contains(self, value: Any) -> bool:
        """Whether a field's value is in the space; a power of two must be one."""
        if self.scale == "choices":
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.kind is int and value != int(value):
            return False
        if self.scale == "power_of_two" and (value < 1 or 2 ** round(math.log2(value)) != value):
            return False
        slack = 1e-6 * (self.high - self.low)  # a config's fields are float32
        return self.low - slack <= value <= self.high + slack

    def nearest(self, value: Any) -> Any:
        """The value in the space that is nearest to a field's value."""
        if self.scale == "choices":
            return value if value in self.choices else self.choices[0]
        value = min(max(value, self.low), self.high)
        return 2 ** round(math.log2(value)) if self.scale == "power_of_two" else value


class Space:
    """What a sweep varies.

    Args:
        table: the content of a TOML file of the form at the top of this module.
        env: the environment, whose parameters may be named.
        source: where the table is from, for messages.

    Raises:
        ValueError: an unknown field, a scale that the field's type does not have, or a range that it does not allow.
    """

    def __init__(self, table: Mapping[str, Any], env: Parameters, source: str = "space") -> None:
        flat = by_field(table, source)
        if not flat:
            raise ValueError(f"{source} names no field; there is nothing to vary")
        own, config = _fields(env), {name: f for name, f in _fields(PPOConfig()).items() if name != "num_agents"}
        known = config | {f"env.{name}": field for name, field in own.items()}
        self.parameters = {name: _parameter(name, entry, known, source) for name, entry in flat.items()}
        self.table = {name: dict(entry) for name, entry in flat.items()}
        self._static = {name for name in flat if known[name][0].metadata["static"]}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """By the names that a trial's parameters have."""
        return {p.key: p.distribution for p in self.parameters.values()}

    @property
    def static_keys(self) -> list[str]:
        """The names, in a trial, of parameters that change a compiled program; `total_steps` does not."""
        return [p.key for p in self.parameters.values() if p.name in self._static and p.name != COST_PARAMETER]

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Fields by name, from a trial's parameters."""
        return {p.name: p.value(params[p.key]) for p in self.parameters.values() if p.key in params}

    def params(self, values: Mapping[str, Any], nearest: bool = False, source: str = "") -> dict[str, Any]:
        """A trial's parameters, from the values of all fields of the space.

        Args:
            values: by name; others are ignored.
            nearest: move values that are outside into the space.
            source: where the values are from, for messages.

        Raises:
            ValueError: a value is outside the space.
        """
        found = {}
        for p in self.parameters.values():
            value = p.nearest(values[p.name]) if nearest else values[p.name]
            if not p.contains(value):
                allowed = _words(p)
                raise ValueError(f"{source}{p.name} is {value!r}; the space has {allowed}")
            found[p.key] = p.found(value)
        return found

    def config(self, base: PPOConfig, params: Mapping[str, Any], num_agents: int) -> PPOConfig:
        """The config of a trial; a minibatch that does not divide the batch evenly becomes the next smaller that does.

        Raises:
            ValueError: the fields do not fit together.
        """
        changes = {name: v for name, v in self.values(params).items() if not name.startswith("env.")}
        fields = base.to_dict() | changes | {"num_agents": num_agents}
        if fields["minibatch_size"]:
            rows = fields["num_envs"] * num_agents
            most = min(rows, max(1, fields["minibatch_size"] // fields["horizon"]))
            fields["minibatch_size"] = fields["horizon"] * next(n for n in range(most, 0, -1) if rows % n == 0)
        return PPOConfig(**fields)

    def env_parameters(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The environment's parameters that a trial changes."""
        return {name.removeprefix("env."): v for name, v in self.values(params).items() if name.startswith("env.")}


def read_space(file: Path, env: Parameters) -> Space:
    """The space in a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not TOML, or not a space.
    """
    return Space(read_toml(file), env, str(file))


def default_space(config: PPOConfig) -> dict[str, Any]:
    """PufferLib 5.0's ranges, each at most a factor of four to eight from the config's value.

    As a table of `Space`. A config's value that is 0 or outside PufferLib's range is in the range nevertheless, and
    sizes that are no powers of two have a range of whole numbers.
    """
    table: dict[str, Any] = {}
    for name, (scale, low, high, factor) in _DEFAULT.items():
        value = getattr(config, name)
        value = value if isinstance(value, int | float) else float(str(value))
        if name == "layers" and not value:
            continue
        at = 1 - value if scale == "logit" else value
        if at <= 0:  # off, or gamma of 1
            continue
        near, far = at / factor, at * factor
        if scale == "logit":
            least, most = min(1 - low, max(near, 1 - high)), max(1 - high, min(far, 1 - low))
            least, most = min(least, at), max(most, at)
            table[name] = {"scale": scale, "min": _short(1 - most), "max": _short(1 - least)}
            continue
        if scale == "power_of_two" and 2 ** round(math.log2(at)) != at:
            scale = "log"  # any whole number
        least, most = min(max(near, low), at), max(min(far, high), at)
        if scale == "integer":
            least, most = math.floor(least) if at > 1 else 1, math.ceil(most)
        if scale == "power_of_two":
            least, most = 2 ** math.floor(math.log2(least)), 2 ** math.ceil(math.log2(most))
        least, most = (int(x) if scale in ("integer", "power_of_two") else _short(x) for x in (least, most))
        table[name] = {"scale": scale, "min": least, "max": most}
    return table


def space_as_toml(table: Mapping[str, Any]) -> str:
    """A table of a space as TOML."""
    return "\n".join(f"[{name}]\n{as_toml(entry)}" for name, entry in by_field(table, "space").items())


def by_field(values: Any, source: str) -> dict[str, Any]:
    """Values by field, the parameters of a table `env` as `env.NAME`, in the types that JSON has.

    Raises:
        TypeError: it is no dict, or a name is no text.
        ValueError: a parameter is in the table and beside it.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{source} is {values!r}; it must be a dict by field")
    of_env = values.get("env") if isinstance(values.get("env"), Mapping) else None
    names = list(values) if of_env is None else [*(name for name in values if name != "env"), *of_env]
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"{source} has the key {wrong[0]!r}; it must be a field's name")
    if of_env is None:
        return plain(values)
    beside = {name: value for name, value in values.items() if name != "env"}
    inside = {f"env.{name}": value for name, value in of_env.items()}
    if twice := beside.keys() & inside.keys():
        raise ValueError(f"{source} has {min(twice)} twice, once in the table env")
    return plain(beside | inside)


def field_of(key: str) -> str:
    """The field that a parameter of a trial sets: num_envs of `log2 num_envs`, gamma of `1 - gamma`."""
    return key.removeprefix("log2 ").removeprefix("1 - ")


def natural(key: str, found: Any) -> Any:
    """The field's value, from the value of a parameter of a trial."""
    if key.startswith("log2 "):
        return 2**found
    return _short(1 - found) if key.startswith("1 - ") else found


def _fields(node: Parameters) -> dict[str, Any]:
    return {field.name: (field, kind) for field, kind in parameter_fields(type(node))}


def _parameter(name: str, entry: Any, known: Mapping[str, Any], source: str) -> Parameter:
    where = f"{source}: {name}"
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{where} is no field of PPOConfig, and no parameter of the environment{hint}")
    field, kind = known[name]
    default = field.metadata.get("default", field.default)
    if np.ndim(default):
        raise ValueError(f"{where} is an array of shape {np.shape(default)}; a space has single values")
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is {entry!r}; it must be a table with scale, min and max, or with choices")
    allowed = ("choices",) if "choices" in entry else ("scale", "min", "max")
    if set(entry) != set(allowed):
        raise ValueError(f"{where} has {', '.join(entry) or 'nothing'}; it must have {', '.join(allowed)}")
    if "choices" in entry:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices or _has_equal(choices):
            raise ValueError(f"{where} has the choices {choices!r}; they must be a list of different values")
        for value in choices:
            _check_choice(where, value, field, kind)
        return Parameter(name, "choices", 0, 0, tuple(choices), kind)
    scale, least, most = entry["scale"], entry["min"], entry["max"]
    if scale not in SCALES:
        raise ValueError(f"{where} has the scale {scale!r}; it must be one of {', '.join(SCALES)}")
    if kind not in (int, float):
        raise ValueError(f"{where} is no number; it must have choices, such as choices = [{default!r}]")
    for bound, value in (("min", least), ("max", most)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where} has the {bound} {value!r}; it must be a number")
        _check_bounds(f"{where} has the {bound}", value, field)
        if value == 0 and name in NOT_ZERO:
            raise ValueError(f"{where} has the {bound} 0; the field must not be 0")
    if least >= most:
        raise ValueError(f"{where} goes from {least!r} to {most!r}; min must be below max")
    if kind is int and scale in ("linear", "logit"):
        raise ValueError(f"{where} is a whole number; its scale must be integer, power_of_two or log")
    if kind is float and scale in ("integer", "power_of_two"):
        raise ValueError(f"{where} is a float; its scale must be linear, log or logit")
    if scale in ("log", "power_of_two") and least <= 0:
        raise ValueError(f"{where} has the min {least!r}; on this scale it must be above 0")
    if scale == "logit" and not (most < 1):
        raise ValueError(f"{where} has the max {most!r}; on the scale logit it must be below 1")
    if scale == "power_of_two" and any(2 ** round(math.log2(x)) != x for x in (least, most)):
        raise ValueError(f"{where} goes from {least!r} to {most!r}; both must be powers of two")
    if scale == "integer" and any(x != int(x) for x in (least, most)):
        raise ValueError(f"{where} goes from {least!r} to {most!r}; both must be whole numbers")
    return Parameter(name, scale, least, most, (), kind)


def _check_choice(where: str, value: Any, field: Any, kind: type) -> None:
    if kind in (int, float, bool, str):
        right = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if not right:
            raise ValueError(f"{where} has the choice {value!r}; it must be {kind.__name__}")
    elif not isinstance(value, int | float | str | bool):
        raise ValueError(f"{where} has the choice {value!r}; choices are numbers, strings or booleans")
    if kind in (int, float):
        _check_bounds(f"{where} has the choice", value, field)
    if "." not in where.rpartition(": ")[2]:
        try:
            PPOConfig(**{field.name: value})
        except (ValueError, TypeError) as error:
            # combinations, such as a minibatch and a batch, are checked for each trial
            if f"PPOConfig.{field.name} is {value!r}; it must be one of" in str(error):
                raise ValueError(f"{where}: {error}") from None


def _has_equal(choices: list[Any]) -> bool:
    """Whether two choices are the same: 1 and 1.0 are, True and 1 are not."""
    return any(a == b and isinstance(a, bool) == isinstance(b, bool) for a, b in itertools.combinations(choices, 2))


def _check_bounds(what: str, value: float, field: Any) -> None:
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if isinstance(value, int) and abs(value) > MOST_INT:
        raise ValueError(f"{what} {value!r}; the most is {MOST_INT}")
    if isinstance(value, float) and math.isfinite(value):
        with np.errstate(over="ignore", under="ignore"):
            stored = np.float32(value)
        if not np.isfinite(stored) or (value and not stored):
            raise ValueError(f"{what} {value!r}; fields are float32, which would make it {stored}")
    if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
        bounds = [f"{word} {bound}" for word, bound in (("at least", low), ("at most", high)) if bound is not None]
        words = f"from {low} to {high}" if len(bounds) == 2 else bounds[0] if bounds else "finite"
        raise ValueError(f"{what} {value!r}; the field must be {words}")


def _words(p: Parameter) -> str:
    if p.scale == "choices":
        return f"the choices {', '.join(map(repr, p.choices))}"
    return f"{'powers of two ' if p.scale == 'power_of_two' else ''}from {p.low} to {p.high}"


def _short(value: float) -> float:
    """A number without the digits that a subtraction from 1, or float32, left."""
    return float(f"{value:.7g}")
