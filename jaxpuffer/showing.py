"""The output of a running `fit`: a line of progress, and warnings about problems."""

import math
import sys
import time
import warnings
from typing import Any, Self

import numpy as np

from jaxpuffer.config import PPOConfig

LINE_SECONDS = 10.0  # between two lines of progress if the output is not a terminal


class Progress:
    """A line on a terminal that is updated in place, new lines elsewhere, nothing if not `enabled`; all on stderr."""

    def __init__(self, config: PPOConfig, enabled: bool) -> None:
        self.total = config.num_updates * config.batch_size
        self.enabled = enabled
        self.live: Any = None
        self.shown = -math.inf

    def __enter__(self) -> Self:
        if self.enabled and sys.stderr.isatty():
            import rich.console
            import rich.live

            self.live = rich.live.Live(console=rich.console.Console(stderr=True), auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, agent_steps: int, means: dict[str, float]) -> None:
        """Show the progress of the run."""
        if not self.enabled:
            return
        left = (self.total - agent_steps) / means["steps_per_second"]
        parts = {
            "": f"{agent_steps / 1e6:,.1f} of {self.total / 1e6:,.1f} M steps",
            "steps/s": f"{means['steps_per_second']:,.0f}",
            "score": f"{means.get('evaluated_score', means['score']):.2f}",
            "policy loss": f"{means['policy_loss']:.4f}",
            "value loss": f"{means['value_loss']:.4f}",
            "entropy": f"{means['entropy']:.3f}",
            "left": f"{int(left // 60)}:{int(left % 60):02d}",
        }
        line = "  ".join(f"{name} {value}".strip() for name, value in parts.items())
        if self.live is not None:
            import rich.text

            self.live.update(rich.text.Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif agent_steps >= self.total or time.monotonic() - self.shown >= LINE_SECONDS:
            self.shown = time.monotonic()
            print(line, file=sys.stderr)


class Warnings:
    """Warns once about each problem that is not an error, with a suggestion."""

    def __init__(self, config: PPOConfig) -> None:
        self.config = config
        self.episodes = 0.0
        self.first_entropy: float | None = None
        self.said: set[str] = set()

    def __call__(self, chunk: dict[str, np.ndarray], updates: int) -> None:
        """Check after `updates` in total, of which the last ones have the metrics `chunk`."""
        self.episodes += float(chunk["episodes"].sum())
        entropy = float(chunk["entropy"][-1])
        if self.first_entropy is None:
            self.first_entropy = float(chunk["entropy"][0])
        steps = updates * self.config.batch_size
        clipped = float(chunk["reward_clipped"].mean())
        if clipped > 0.1:
            self._once("reward", f"{clipped:.0%} of the rewards are outside reward_clip; try a larger one")
        unknown = float(chunk["observation_out_of_range"].max())
        if unknown > 0:
            self._once("observation", f"{unknown:.0%} of the observed tiles are outside the observation space")
        wild = float(chunk["value_out_of_range"].mean())
        if wild > 0.1 and updates >= 10:
            self._once("value", f"{wild:.0%} of the values are far from all returns; try a lower learning_rate")
        # differential entropy can be below zero and says less
        if (
            self.first_entropy > 0
            and 0 <= entropy < 0.01 * self.first_entropy
            and 4 * updates < self.config.num_updates
        ):
            self._once(
                "entropy",
                f"entropy fell to {entropy:.3g} early, at {steps:,} steps; "
                "unless the score is good, try a larger entropy_coefficient",
            )
        if not self.episodes and updates >= 10 and 10 * updates >= self.config.num_updates:
            self._once("episodes", f"no episode has ended in {steps:,} steps; does the environment have a time limit?")

    def _once(self, kind: str, message: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            warnings.warn(message, RuntimeWarning, stacklevel=4)
