"""A search space of Optuna as the cube [-1, 1]^d, in which Protein works.

Each parameter is one axis. Linear and logarithmic floats and integers are spread evenly over it; an integer, a float
with a step and a choice have cells of equal size, in log units if the parameter is logarithmic. A choice's cells have
no order, so the Gaussian processes see one column of 0 and 1 for each of its values instead.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


class Axis:
    """One parameter: its values, as Optuna stores them (float; of a choice its index), and units from -1 to 1."""

    def __init__(self, distribution: BaseDistribution) -> None:
        self.distribution = distribution
        self.choices = len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 0
        if isinstance(distribution, CategoricalDistribution):
            self.low, self.high, self.step, self.log = 0.0, self.choices - 1.0, 1.0, False
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            self.low, self.high, self.log = float(distribution.low), float(distribution.high), distribution.log
            self.step = float(distribution.step or 0.0)
        else:
            raise ValueError(f"a {type(distribution).__name__} cannot be searched; use floats, integers or choices")
        ends = np.array([self.low - self.step / 2, self.high + self.step / 2])
        self._begin, end = np.log(ends) if self.log else ends
        self._length = end - self._begin

    def to_units(self, values: np.ndarray) -> np.ndarray:
        """Units of values; outside [-1, 1] if a value is outside its range."""
        return 2 * ((np.log(values) if self.log else values) - self._begin) / self._length - 1

    def to_values(self, units: np.ndarray) -> np.ndarray:
        """The allowed values that are nearest to units."""
        values = self._begin + (np.asarray(units) + 1) / 2 * self._length
        values = np.exp(values) if self.log else values
        if self.step:
            values = self.low + np.round((values - self.low) / self.step) * self.step
        return np.clip(values, self.low, self.high)


class Cube:
    """A search space, its parameters in the order of their names. Rows are float64 (n, d), in units."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.names = sorted(space)
        self.axes = [Axis(space[name]) for name in self.names]

    def row(self, params: Mapping[str, Any]) -> np.ndarray:
        """Parameters, all of them, as float64 (d,)."""
        stored = [axis.distribution.to_internal_repr(params[n]) for n, axis in zip(self.names, self.axes, strict=True)]
        return np.array([axis.to_units(np.array(v)) for v, axis in zip(stored, self.axes, strict=True)], np.float64)

    def params(self, row: np.ndarray) -> dict[str, Any]:
        """The parameters nearest to a row."""
        return {
            name: axis.distribution.to_external_repr(float(axis.to_values(unit)))
            for name, axis, unit in zip(self.names, self.axes, row, strict=True)
        }

    def nearest(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the parameters nearest to rows."""
        columns = [axis.to_units(axis.to_values(rows[:, i])) for i, axis in enumerate(self.axes)]
        return np.clip(np.stack(columns, 1), -1, 1)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """What a Gaussian process sees: units, and 0 or 1 for each value of a choice; float64 (n, features)."""
        columns = []
        for i, axis in enumerate(self.axes):
            if axis.choices:
                columns.append(np.eye(axis.choices)[axis.to_values(rows[:, i]).astype(int)])
            else:
                columns.append(rows[:, i : i + 1])
        return np.concatenate(columns, 1)

    def around(self, centers: np.ndarray, count: int, scale: float, rng: np.random.Generator) -> np.ndarray:
        """`count` rows around each center: uniform within `scale`; choices are drawn anew with chance scale / 2."""
        rows = np.repeat(centers, count, 0)
        moved = np.clip(rows + rng.uniform(-scale, scale, rows.shape), -1, 1)
        drawn, anew = rng.uniform(-1, 1, rows.shape), rng.random(rows.shape) < scale / 2
        choice = np.array([bool(axis.choices) for axis in self.axes])
        return self.nearest(np.where(choice, np.where(anew, drawn, rows), moved))
