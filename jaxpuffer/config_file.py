"""Configurations as TOML: fields of PPOConfig, a table [league] with those of its LeagueConfig, and a table [env] with
parameters of the environment."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array

from jaxpuffer.config import PPOConfig
from jaxpuffer.env import Env
from jaxpuffer.pytree import Parameters


def plain(value: Any) -> Any:
    """Numbers and arrays of NumPy and JAX, also inside of lists and dicts, as JSON has them; all else as it is."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic | Array) else value


def as_toml(values: Mapping[str, Any]) -> str:
    """A line for each value, of the kinds that JSON has; None, which TOML does not have, is left out; tables last."""
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {json.dumps(x)}\n" for name, x in values.items() if x is not None and name not in tables]
    return "".join([*lines, *(f"\n[{name}]\n{as_toml(table)}" for name, table in tables.items())])


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # or not UTF-8
        raise ValueError(f"{path} is not TOML: {error}") from error


def read_config_file(
    path: Path, config: Mapping[str, Any], env: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of PPOConfig in a file, and the parameters in its table [env].

    Args:
        path: the file.
        config: values by name, whose kinds those of the file must have; names and ranges are not checked.
        env: the same for the parameters.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not TOML, or a value is of another kind.
    """
    fields = read_toml(path)
    parameters = fields.pop("env", {})
    if not isinstance(parameters, dict):
        raise ValueError(f"{path}: env is {parameters!r}; it must be a table, [env]")
    league = fields.get("league", {})
    if not isinstance(league, dict):
        raise ValueError(f"{path}: league is {league!r}; it must be a table, [league]")
    groups = ("", fields, config), ("league.", league, config.get("league", {})), ("env.", parameters, env)
    for prefix, values, known in groups:
        for name, value in values.items():
            allowed = _kind(known.get(name))
            if allowed and _kind(value) != allowed:
                raise ValueError(f"{path}: {prefix}{name} is {value!r}; it must be {allowed}")
    return fields, parameters


def settable(node: Parameters) -> dict[str, Any]:
    """The parameters that a user may set: the number of agents follows from the environment."""
    hidden = ("num_agents",) if isinstance(node, PPOConfig) else ()
    return {name: value for name, value in node.to_dict().items() if name not in hidden}


def with_file(file: Path, env: Env, config: PPOConfig) -> tuple[Env, PPOConfig]:
    """The same with what a file of `config_file.py` says in place of some values."""
    fields, parameters = read_config_file(file, settable(config), settable(env))
    if "num_agents" in fields:
        raise ValueError(f"{file}: num_agents is {fields['num_agents']}; it follows from the environment, leave it out")
    try:
        env = env.replace(**parameters)
        if "league" in fields:
            fields["league"] = config.league.to_dict() | fields["league"]
        return env, chosen_config(settable(config) | fields, config, env.num_agents)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def chosen_config(chosen: dict[str, Any], tuned: PPOConfig, num_agents: int) -> PPOConfig:
    """The config of the flags; a minibatch size that was not given changes if it does not divide the batch."""
    batch, minibatch = chosen["num_envs"] * num_agents * chosen["horizon"], chosen["minibatch_size"]
    if minibatch and minibatch == tuned.minibatch_size and (batch % minibatch or minibatch % max(1, chosen["horizon"])):
        config = PPOConfig(**chosen | {"minibatch_size": 0}, num_agents=num_agents)
        print(
            f"config.minibatch_size is {config.minibatch_size}, because {minibatch} does not divide the batch, {batch}"
        )
        return config
    return PPOConfig(**chosen, num_agents=num_agents)


def _kind(value: Any) -> str | None:
    """What a value of TOML or JSON is, in words."""
    kinds = {dict: "a table", bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value))
