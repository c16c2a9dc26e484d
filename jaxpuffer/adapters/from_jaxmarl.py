"""from_jaxmarl: worlds of several agents of JaxMARL."""

import copy
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxpuffer.adapters.adapted import Adapted, Held, Masked, View, library, parts_of, their_rules
from jaxpuffer.adapters.flatten import flat_action, flat_observation
from jaxpuffer.adapters.from_gymnax import action_parts, bounds_at
from jaxpuffer.devices import in_32_bits
from jaxpuffer.env import static

ENDLESS = 2**30  # steps


class JaxMARL(Adapted):
    """A world of JaxMARL."""

    multi_agent = True
    endless: Held = static(default=None, help="the same world without its time limit; itself if it has none")

    how_to_render: ClassVar[str] = ": jaxmarl.viz"

    @property
    def num_agents(self) -> int:
        return len(self.theirs.agents)

    def begin(self, key: Array) -> tuple[Any, View]:
        obs, inner = self.theirs.reset(key)
        return inner, View(self._stack(obs), self._mask(inner))

    def advance(self, inner: Any, action: Any, key: Array) -> tuple[Any, View]:
        actions = {agent: jax.tree.map(lambda x, i=i: x[i], action) for i, agent in enumerate(self.theirs.agents)}
        obs, after, reward, done, _ = self.theirs.step_env(key, inner, actions)
        over = done["__all__"]
        terminated = over
        if self.endless != self.held:  # only the end by the rules is used of this step
            terminated = over & self.endless.value.step_env(key, inner, actions)[3]["__all__"]
        return after, View(self._stack(obs), self._mask(after), self._stack(reward), terminated, over & ~terminated)

    def _stack(self, of_agents: dict[str, Any]) -> Any:
        """What each agent has, with an axis of agents in front."""
        return jax.tree.map(lambda *x: jnp.stack(x), *(of_agents[agent] for agent in self.theirs.agents))

    def _mask(self, inner: Any) -> Array | None:
        return None


class MaskedJaxMARL(Masked, JaxMARL):
    """A world of JaxMARL with illegal actions."""

    def _mask(self, inner: Any) -> Array | None:
        return self._stack(self.theirs.get_avail_actions(inner)).reshape(self.num_agents, -1)


@in_32_bits
def from_jaxmarl(env: Any) -> JaxMARL:
    """A world of JaxMARL, whose agents have equal spaces, as an `Env` of several agents that `train` takes.

    The world ends for all agents at once, where JaxMARL says `__all__`; an agent that it calls done before stays, and
    has the rewards and observations that JaxMARL gives it. JaxMARL's done does not tell a time limit from an end by
    the rules: where the environment has `max_steps`, a second one without it is asked, so `truncated` is a step at
    which the second one goes on; all other ends are `terminated`. Its auto-reset is not used, so the final
    observation is the true one. Illegal actions are those that `get_avail_actions` leaves out.

    Args:
        env: JaxMARL's environment, or its name, such as "MPE_simple_spread_v3".

    Raises:
        ImportError: JaxMARL is not installed.
        TypeError: `env` is not an environment of JaxMARL.
        ValueError: its agents have different spaces, or spaces that do not fit ours.
    """
    if isinstance(env, str):
        env = library("jaxmarl", "jaxmarl").make(env)
    if not all(hasattr(env, name) for name in ("agents", "reset", "step_env", "get_avail_actions")):
        raise TypeError(f"env is a {type(env).__name__}; it must be an environment of JaxMARL, or its name")
    observations = [_observed(env, agent) for agent in env.agents]
    actions = [action_parts(env.action_space(agent)) for agent in env.agents]
    for what, spaces in (("observations", observations), ("actions", actions)):
        for agent, space in zip(env.agents, spaces, strict=True):
            if space != spaces[0]:
                raise ValueError(
                    f"the {what} of {agent} are {space}, those of {env.agents[0]} {spaces[0]}; "
                    "all agents must have equal spaces: jaxmarl.wrappers.baselines.CTRolloutManager pads them"
                )
    endless = Held(env)
    if isinstance(getattr(env, "max_steps", None), int):
        unlimited = copy.copy(env)
        unlimited.max_steps = ENDLESS
        endless = Held(unlimited)
    made = MaskedJaxMARL if _has_mask(env) else JaxMARL
    return made(
        held=Held(env), observation=flat_observation(observations[0]), action=flat_action(actions[0]), endless=endless
    )


def _observed(env: Any, agent: str) -> Any:
    space = env.observation_space(agent)
    return parts_of(lambda key: env.reset(key)[0][agent], lambda path: bounds_at(space, path))


def _has_mask(env: Any) -> bool:
    def mask(key: Array) -> Any:
        return env.get_avail_actions(env.reset(key)[1])

    try:
        with their_rules():
            jax.eval_shape(mask, jax.eval_shape(jax.random.PRNGKey, 0))
    except NotImplementedError:
        return False
    return True
