"""PPOConfig: everything that shapes a training run, and the tuned configurations of the environments."""

import importlib.resources
import tomllib
import warnings
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxpuffer.env import has_sides
from jaxpuffer.networks import ACTIVATIONS, DTYPES, ENCODERS, POLICIES, RECURRENT, SCANS
from jaxpuffer.pytree import Parameters, param, parameter_fields, static
from jaxpuffer.registry import ancestor_of, name_of

NO_REWARD_CLIP = 1e12  # larger rewards have returns whose squares a float32 does not hold
DERIVED_MINIBATCH = 8192  # most agent-steps of a minibatch whose size is not given

# with 0 in one of these nothing would be learned
NOT_ZERO = ("update_epochs", "reward_scale", "clip", "max_grad_norm")

# the allowed names of fields that are names; `advantage.py` and `loss.py` add their own kinds
CHOICES: dict[str, Collection[str]] = {
    "policy": POLICIES,
    "encoder": ENCODERS,
    "activation": tuple(ACTIVATIONS),
    "scan": SCANS,
    "precision": DTYPES,
    "prioritize": ("no", "with_replacement", "without_replacement"),
    "optimizer": ("muon", "adam"),
    "schedule": ("constant", "linear", "cosine"),
}


DRAWS = ("uniform", "recent", "prioritized")  # of opponents from the pool


class _Derived(int):
    """A number that was not given: it changes with the fields from which it is computed."""


class LeagueConfig(Parameters):
    """Who is played against in games of two sides; by default the learner plays all sides itself.

    With `opponents`, a share of the games is played against frozen copies of the learner, drawn from a pool of earlier
    ones. Only the learner's steps are trained on.
    """

    opponents: int = static(
        default=0, minimum=0, help="frozen policies that play at the same time, each in as many games; 0: no league"
    )
    anchor: str = static(
        default="",
        help="names of scripted opponents, some of the environment's bots, with commas between them; each plays as "
        "many games as one of the frozen policies",
    )
    share: float = static(
        default=0.25,
        minimum=0,
        maximum=1,
        help="share of the games against opponents, rounded to an even number for each (OpenAI Five, 2019: 0.2)",
    )
    capacity: int = static(
        default=32, minimum=2, help="policies in the pool; when it is full, every second one is dropped"
    )
    snapshot_every: int = static(
        default=500_000, minimum=1, help="agent-steps between snapshots; doubled each time the pool is full at one"
    )
    snapshot_win_rate: float = static(
        default=1.0,
        minimum=0,
        maximum=1,
        help="share of games won against frozen policies since the last snapshot above which the next is taken "
        "early; 1: never",
    )
    snapshot_games: int = static(default=400, minimum=1, help="fewest games for snapshot_win_rate")
    draw: str = static(
        default="prioritized",
        help="how opponents are drawn: uniform (Heinrich and Silver, 2016), recent, or prioritized by how often "
        "the learner does not win (AlphaStar, 2019)",
    )
    recency: float = static(
        default=0.9, minimum=0, maximum=1, help="with recent: the weight of a policy over that of the next newer one"
    )
    priority: float = static(
        default=2.0, minimum=0, help="with prioritized: exponent of 1 - win rate (AlphaStar's f_hard has 2)"
    )
    redraw_every: int = static(default=20, minimum=1, help="updates between two drawings of opponents")
    elo_k: float = static(default=4.0, minimum=0, help="Elo points at stake in a game (Elo, 1978)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw not in DRAWS:
            raise ValueError(f"LeagueConfig.draw is {self.draw!r}; it must be one of {', '.join(DRAWS)}")

    @property
    def anchors(self) -> tuple[str, ...]:
        """The names of the scripted opponents."""
        return tuple(name.strip() for name in self.anchor.split(",")) if self.anchor else ()

    @property
    def groups(self) -> int:
        """Opponents at the same time, the anchors among them."""
        return self.opponents + len(self.anchors)

    def __str__(self) -> str:
        """Who is played against, such as `2 opponents and 1 anchor`."""
        counts = {"opponent": self.opponents, "anchor": len(self.anchors)}
        return " and ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n) or "no opponents"


class PPOConfig(Parameters):
    """Everything that shapes a training run.

    Fields made with `param` are traced: they can be changed without compiling again and
    vmapped over. Fields made with `static` set shapes or code paths.
    """

    # how much
    total_steps: int = static(
        default=10_000_000, minimum=1, help="agent-steps to train for, rounded up to whole updates"
    )
    num_envs: int = static(default=1024, minimum=1, help="environments stepped together")
    horizon: int = static(default=64, minimum=1, help="steps of a rollout")
    minibatch_size: int = static(
        default=0,
        minimum=0,
        help="agent-steps per gradient step; 0: the most that divide the batch evenly, 8192 at most",
    )
    update_epochs: float = static(
        default=1.0, minimum=0, help="how many times each collected agent-step is trained on (PufferLib's replay ratio)"
    )
    microbatch_size: int = static(
        default=0,
        minimum=0,
        help="most agent-steps whose gradient a device computes at once; 0: the fastest for the device",
    )
    num_agents: int = static(default=1, minimum=1, help="agents per environment; set from the environment")

    # the network
    policy: str = static(default="mlp", help="the network: linear, mlp, mingru or lstm")
    encoder: str = static(default="flat", help="the encoder of observations: flat, embedding, grid, entity or image")
    hidden: int = static(default=128, minimum=1, help="units of each hidden layer")
    layers: int = static(default=1, minimum=0, help="number of hidden layers")
    activation: str = static(default="gelu", help="activation of the hidden layers: gelu, relu or tanh")
    separate_critic: bool = static(default=False, help="give the critic its own hidden layers")
    scan: str = static(default="sequential", help="how MinGRU computes its states over time: sequential or parallel")
    precision: str = static(
        default="float32", help="number type of the network's arithmetic: float32, or bfloat16 with float32 parameters"
    )
    normalize_observation: bool = static(
        default=True, help="scale float observations by their mean and standard deviation so far, and clip them to 10"
    )

    # rewards and advantages
    gamma: float = param(default=0.995, minimum=0, maximum=1, help="discount per step")
    gae_lambda: float = param(
        default=0.95, minimum=0, maximum=1, help="GAE's lambda: from 0, one step, to 1, the whole return"
    )
    reward_scale: float = param(default=1.0, help="rewards are multiplied by this")
    reward_clip: float = param(
        default=NO_REWARD_CLIP, minimum=0, help="rewards, once scaled, are clipped to this magnitude"
    )
    normalize_return: bool = static(
        default=True, help="let the critic learn returns in units of their running mean and standard deviation"
    )
    advantage: str = static(
        default="gae",
        help="gae: computed once per rollout; puffer: again before each gradient step, with V-trace's clips",
    )
    rho_clip: float = param(
        default=1.0, minimum=0, help="largest ratio that weights a step's own difference; for the puffer advantage"
    )
    c_clip: float = param(
        default=1.0,
        minimum=0,
        help="largest ratio that weights the differences of later steps; for the puffer advantage",
    )
    normalize_advantage: bool = static(
        default=True, help="scale the advantages of each minibatch to mean 0 and standard deviation 1"
    )
    prioritize: str = static(
        default="no", help="draw the segments of a minibatch by advantage: no, with_replacement, without_replacement"
    )
    priority_alpha: float = param(
        default=0.8, minimum=0, help="exponent of a segment's summed absolute advantage, where segments are drawn"
    )
    priority_beta: float = param(
        default=0.2,
        minimum=0,
        maximum=1,
        help="exponent of the importance weights at the start, where segments are drawn; it rises to 1",
    )

    # the loss
    policy_objective: str = static(default="clip", help="what the policy maximises: clip, PPO's clipped surrogate")
    clip: float = param(default=0.2, minimum=0, help="how far a probability ratio may move from 1")
    value_clip: float = param(
        default=1e9, minimum=0, help="how far a value may move from its value in the rollout, in the critic's units"
    )
    value_coefficient: float = param(default=2.0, minimum=0, help="weight of the value loss")
    entropy_coefficient: float = param(default=0.001, minimum=0, help="weight of the entropy bonus at the start")
    min_entropy_share: float = param(
        default=1.0,
        minimum=0,
        maximum=1,
        help="share of the entropy's weight that is left at the end, after a linear fall",
    )
    early_stop: bool = static(default=False, help="end an update's gradient steps once approx_kl exceeds target_kl")
    target_kl: float = param(default=0.02, minimum=0, help="approx_kl above which early_stop ends an update")
    max_kl: float = param(
        default=1.0, minimum=0, help="mean approx_kl of an update above which the next updates take smaller steps"
    )

    # the optimiser
    optimizer: str = static(default="muon", help="optimiser: muon or adam")
    learning_rate: float = param(default=0.015, minimum=0, help="learning rate at the start")
    schedule: str = static(default="cosine", help="how the learning rate changes: constant, linear or cosine")
    min_learning_rate_share: float = param(
        default=0.0, minimum=0, maximum=1, help="share of the learning rate that is left at the end"
    )
    momentum: float = param(default=0.95, minimum=0, maximum=0.99999, help="Muon's momentum, or Adam's beta1")
    adam_beta2: float = param(default=0.999, minimum=0, maximum=0.999999, help="Adam's beta2")
    adam_epsilon: float = param(default=1e-8, minimum=0, help="Adam's epsilon")
    weight_decay: float = param(
        default=0.0, minimum=0, help="weight decay, multiplied by the learning rate; with Muon of matrices only"
    )
    max_grad_norm: float = param(default=1.5, minimum=0, help="global norm to which gradients are clipped")

    # games of two sides
    league: LeagueConfig = static(default=LeagueConfig(), help="opponents besides the learner itself")

    def __post_init__(self) -> None:
        derived = isinstance(self.minibatch_size, _Derived) or not self.minibatch_size
        super().__post_init__()
        if derived:
            most = max(1, min(self.rows, DERIVED_MINIBATCH // self.horizon))
            width = next(n for n in range(most, 0, -1) if self.rows % n == 0)
            object.__setattr__(self, "minibatch_size", _Derived(width * self.horizon))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"PPOConfig.{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        for name in NOT_ZERO:
            value = getattr(self, name)
            if not isinstance(value, jax.core.Tracer) and not np.all(value):
                raise ValueError(f"PPOConfig.{name} is {value}; it must not be 0")
        # num_agents of 1 may mean that the environment, which may have more, is not known yet
        if self.minibatch_size % self.horizon or self.num_agents > 1:
            self.check_minibatch()
        if self.policy in RECURRENT and (self.separate_critic or not self.layers):
            raise ValueError(
                f"PPOConfig.policy is {self.policy!r}; it needs layers of at least 1 ({self.layers}) "
                f"and separate_critic=False ({self.separate_critic})"
            )

    @classmethod
    def pufferlib(cls, **changes: Any) -> "PPOConfig":
        """The defaults with PufferLib's handling of units: rewards and values clipped, nothing normalised.

        For environments made for PufferLib, whose rewards are between -1 and 1.
        """
        units = {"reward_clip": 1.0, "value_clip": 0.2, "normalize_observation": False, "normalize_return": False}
        units |= {"max_kl": 1e9, "gae_lambda": 0.9}
        return cls(**(units | changes))

    def check_minibatch(self) -> None:
        """Raise ValueError unless minibatches divide the batch of `num_agents` agents evenly."""
        if self.batch_size % self.minibatch_size or self.minibatch_size % self.horizon:
            raise ValueError(
                f"PPOConfig.minibatch_size is {self.minibatch_size}; it must be a multiple of horizon ({self.horizon}) "
                f"that divides num_envs * num_agents * horizon ({self.batch_size})"
            )

    @property
    def rows(self) -> int:
        """Agents that act at each step."""
        return self.num_envs * self.num_agents

    @property
    def batch_size(self) -> int:
        """Agent-steps of one update."""
        return self.rows * self.horizon

    @property
    def num_minibatches(self) -> int:
        self.check_minibatch()
        return self.batch_size // self.minibatch_size

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of one update; at least one."""
        return max(1, round(self.update_epochs * self.num_minibatches))

    @property
    def league_games(self) -> int:
        """Environments with games against opponents, the last ones: an even number for each opponent, at least 2."""
        pairs = 2 * self.league.groups
        wanted = self.league.share * self.num_envs / pairs if pairs else 0.0
        return pairs and pairs * max(1, min(round(wanted), self.num_envs // pairs))

    @property
    def num_updates(self) -> int:
        return -(-self.total_steps // self.batch_size)

    @property
    def schedule_updates(self) -> float | Array:
        """Updates over which the schedules go from 0 to 1."""
        return float(self.num_updates)


def complete(env: Any, config: PPOConfig | None) -> PPOConfig:
    """The config that a run of this environment uses: tuned if None, with the environment's number of agents.

    Raises:
        TypeError: `config` is not a PPOConfig.
        ValueError: a field has an axis, or minibatches do not divide the batch with that number of agents.
    """
    if config is None:
        config = tuned_config(env)
    if not isinstance(config, PPOConfig):
        hint = ": PPOConfig(**config)" if isinstance(config, dict) else ""
        raise TypeError(f"config is {config!r:.100}; it must be a PPOConfig or None{hint}")
    for field, _ in parameter_fields(PPOConfig):
        if not field.metadata["static"] and np.shape(getattr(config, field.name)):
            raise ValueError(
                f"PPOConfig.{field.name} has the shape {np.shape(getattr(config, field.name))}; it must be one number "
                f"(for several runs vmap over it, with in_axes=config.axes({field.name!r}))"
            )
    config = config if config.num_agents == env.num_agents else config.replace(num_agents=env.num_agents)
    config.check_minibatch()
    check_league(env, config)
    return config


def check_league(env: Any, config: PPOConfig) -> None:
    """Raise an error unless the league's games fit the environment, its bots and the number of environments.

    Warns if the share of games is far from what was asked for, because each opponent has an even number of them.
    """
    league, cls = config.league, type(getattr(env, "env", env)).__name__
    bots = bots_of(env) if has_sides(env) else None
    if not league.groups:
        return
    if bots is None:
        raise ValueError(
            f"PPOConfig.league has {league}; {cls} is no game of two sides (it has no to_play and no teams)"
        )
    anchors = league.anchors
    wrong = [f"{name!r} is none of them" if name else "a name is empty" for name in anchors if name not in bots]
    wrong += [f"{name!r} is given twice" for name in anchors if anchors.count(name) > 1]
    if wrong:
        has = ", ".join(bots) or "none"
        raise ValueError(f"LeagueConfig.anchor is {league.anchor!r}; {cls} has the bots {has}: {wrong[0]}")
    games, wanted = config.league_games, league.share * config.num_envs
    if games > config.num_envs:
        raise ValueError(f"PPOConfig.league has {league}, with 2 games each at least; num_envs is {config.num_envs}")
    if abs(games - wanted) > 0.25 * wanted:
        warnings.warn(
            f"LeagueConfig.share is {league.share:g}, which is {wanted:.4g} of {config.num_envs} games; with {league} "
            f"it is {games}, {games // league.groups} for each (an even number)",
            stacklevel=2,
        )


def bots_of(env: Any) -> tuple[str, ...]:
    """The names of the environment's scripted opponents.

    Raises:
        TypeError: `bots` is no tuple of names.
        ValueError: a name is empty, has a comma or a space at an end, or is there twice.
    """
    twin = getattr(env, "env", env)
    bots, name = twin.bots, f"{type(twin).__name__}.bots"
    if not isinstance(bots, tuple) or not all(isinstance(bot, str) for bot in bots):
        raise TypeError(f"{name} is {bots!r}; it must be a tuple of names, as in ('first', 'second')")
    if any("," in bot or bot != bot.strip() or not bot for bot in bots) or len(set(bots)) < len(bots):
        raise ValueError(f"{name} is {bots!r}; names must differ, and have no commas and no spaces around them")
    return bots


def tuned_config(env: Any) -> PPOConfig:
    """The environment's tuned configuration, envs_jax/NAME.toml, or the defaults if there is none.

    A class derived from a registered environment's class uses that one's, with a warning.
    """
    name = ancestor_of(env)
    if name and name_of(env) is None:
        cls = type(getattr(env, "env", env)).__name__
        warnings.warn(f"{cls} has no configuration of its own; it uses {name}'s", stacklevel=3)
    file = importlib.resources.files("envs_jax") / f"{name}.toml"
    fields = tomllib.loads(file.read_text()) if name and file.is_file() else {}
    return PPOConfig(**fields, num_agents=env.num_agents)
