"""The output of a running `fit`: a line of progress, and warnings about problems."""

import math
import sys
import time
import warnings
from typing import Any, Self

import numpy as np

from jaxpuffer.config import NO_REWARD_CLIP, PPOConfig
from jaxpuffer.evaluate import readable

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
            "score": readable(means.get("evaluated_score", means["score"]), 2),
            "policy loss": f"{means['policy_loss']:.4f}",
            "value loss": f"{means['value_loss']:.4f}",
            "entropy": f"{means['entropy']:.3f}",
            "left": f"{int(left // 60)}:{int(left % 60):02d}",
        }
        if math.isnan(means["score"]):  # no episode has ended yet
            parts["score"] = f"unknown, reward {readable(means['reward'], 4)} per step"
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
        elif clipped > 0 and float(self.config.reward_clip) >= 0.99 * NO_REWARD_CLIP:  # which was not meant to clip any
            self._once("reward", f"{clipped:.2%} of the rewards are outside reward_clip; try a smaller reward_scale")
        beyond = float(chunk["reward_out_of_range"].max())
        if beyond > 0:
            self._once(
                "reward size",
                f"{beyond:.0%} of the rewards are smaller than 1e-15 or larger than 1e15, outside of float32; "
                "set reward_scale so that they are near 1",
            )
        unknown = float(chunk["observation_out_of_range"].max())
        if unknown > 0:
            self._once(
                "observation",
                f"{unknown:.0%} of what is observed is lost to the network: tiles outside the observation space, or "
                "floats that vary by less than 1e-18 or more than 1e18",
            )
        if float(chunk["episodes"].sum()) > 0 and any(
            np.isnan(chunk[name][chunk["episodes"] > 0]).any() for name in ("score", "perf")
        ):
            self._once("score", "score or perf is NaN for episodes that ended; look at the environment's functions")
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
