"""from_pgx: games of Pgx, one seat of them ours."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxpuffer.adapters.adapted import NO_LIMIT, Adapted, Held, Masked, View, library, parts_of
from jaxpuffer.adapters.flatten import Part, flat_action, flat_observation
from jaxpuffer.devices import in_32_bits
from jaxpuffer.env import PyTreeNode, static


class Seated(PyTreeNode):
    """A game of Pgx, and which player is ours."""

    state: Any  # Pgx's State
    seat: Array  # int32 ()


class Pgx(Masked, Adapted):
    """A game of Pgx against an opponent in the other seats."""

    opponent: Held = static(default=None, help="(Pgx's State, raw key) -> action, int32 ()")

    how_to_render: ClassVar[str] = ": state.inner.state.to_svg()"

    def begin(self, key: Array) -> tuple[Any, View]:
        def deal(carry: tuple[Array, Any]) -> tuple[Array, Seated]:
            key, seat_key, deal_key, play_key = jax.random.split(carry[0], 4)
            seat = jax.random.randint(seat_key, (), 0, self.theirs.num_players, jnp.int32)
            return key, self._opponents(Seated(self.theirs.init(deal_key), seat), play_key)[0]

        dealt = deal((key, None))
        if self.theirs.num_players > 1:
            dealt = lax.while_loop(lambda carry: _over(carry[1].state), deal, dealt)
        return dealt[1], self._view(dealt[1])

    def advance(self, inner: Any, action: Any, key: Array) -> tuple[Any, View]:
        step_key, play_key = jax.random.split(key)
        inner = inner.replace(state=self.theirs.step(inner.state, action, step_key))
        own = inner.state.rewards[inner.seat]
        inner, later = self._opponents(inner, play_key)
        state = inner.state
        return inner, self._view(inner).replace(
            reward=own + later, terminated=state.terminated, truncated=state.truncated
        )

    def _opponents(self, game: Seated, key: Array) -> tuple[Seated, Array]:
        """The game when it is our turn or it is over, and our reward until then."""
        if self.theirs.num_players == 1:
            return game, jnp.float32(0)

        def move(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
            state, key, reward = carry
            key, choose_key, step_key = jax.random.split(key, 3)
            action = jnp.asarray(self.opponent.value(state, choose_key), jnp.int32)
            state = self.theirs.step(state, action, step_key)
            return state, key, reward + jnp.float32(state.rewards[game.seat])

        state, _, reward = lax.while_loop(
            lambda carry: (carry[0].current_player != game.seat) & ~_over(carry[0]),
            move,
            (game.state, key, jnp.float32(0)),
        )
        return game.replace(state=state), reward

    def _view(self, game: Seated) -> View:
        return View(game.state.observation, game.state.legal_action_mask)


@in_32_bits
def from_pgx(env: Any, opponent: Callable[[Any, Array], Array] | None = None, max_steps: int = NO_LIMIT) -> Pgx:
    """A game of Pgx as an `Env` that `train` takes: we have one seat, drawn for each game, an opponent all others.

    A step is a move of ours and those of the others until it is our turn again; the reward is the sum of ours over
    them. A game that is over before our first move is dealt again. Illegal actions are masked; one that is played
    all the same ends the game by Pgx's rules, with its penalty. `terminated` and `truncated` are Pgx's, whose own
    games are never truncated, so that a final observation is needed only with `max_steps`.

    Args:
        env: Pgx's environment, or its name, such as "tic_tac_toe". Games of one player have no opponent.
        opponent: from Pgx's State, in which it is the opponent's turn, and a raw key to an action, int32 (); default a
            random legal action.
        max_steps: steps of ours before truncation, for games that may not end.

    Raises:
        ImportError: Pgx is not installed.
        TypeError: `env` is not an environment of Pgx, or `opponent` is not a function.
    """
    if isinstance(env, str):
        env = library("pgx", "pgx").make(env)
    if not all(hasattr(env, name) for name in ("init", "step", "num_players", "num_actions")):
        raise TypeError(f"env is a {type(env).__name__}; it must be an environment of Pgx, or its name")
    opponent = random_legal if opponent is None else opponent
    if not callable(opponent):
        raise TypeError(f"opponent is {opponent!r}; it must be a function of Pgx's State and a key")
    return Pgx(
        held=Held(env),
        observation=flat_observation(parts_of(lambda key: env.init(key).observation, lambda path: None)),
        action=flat_action(Part((), jnp.int32, 0, env.num_actions - 1)),
        max_steps=max_steps,
        opponent=Held(opponent),
    )


def random_legal(state: Any, key: Array) -> Array:
    """A legal action of Pgx's State, all with equal probability."""
    allowed = state.legal_action_mask.astype(jnp.int32)
    chosen = jax.random.randint(key, (), 0, allowed.sum())
    return jnp.argmax(allowed.cumsum() > chosen).astype(jnp.int32)


def _over(state: Any) -> Array:
    return state.terminated | state.truncated
