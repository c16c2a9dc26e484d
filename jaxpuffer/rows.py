"""Work on the few rows of a batch that need it: in chunks, and with the rows of many runs joined."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

Carry = TypeVar("Carry")


def for_rows(where: Array, chunk: int, body: Callable[[Array, Carry], Carry], carry: Carry) -> Carry:
    """`carry = body(picked, carry)` for the rows where `where`, bool (rows,), is true, `chunk` of them at a time.

    `picked` is int32 (chunk,); in the last chunk, unused entries point past the end: read
    with `jnp.minimum(picked, rows - 1)`, write with `mode="drop"`. Nothing is done if no row is true.
    """

    def all_chunks(carry: Carry) -> Carry:
        order, count = ranked(where, chunk)

        def one(turn: tuple[Array, Carry]) -> tuple[Array, Carry]:
            begin, carry = turn
            return begin + chunk, body(lax.dynamic_slice(order, (begin,), (chunk,)), carry)

        return lax.while_loop(lambda turn: turn[0] < count, one, (jnp.int32(0), carry))[1]

    # a loop of at most one iteration: under vmap it still skips what a cond would compute and discard
    once = lax.while_loop(
        lambda turn: turn[0], lambda turn: (jnp.bool_(False), all_chunks(turn[1])), (where.any(), carry)
    )
    return once[1]


def ranked(where: Array, chunk: int) -> tuple[Array, Array]:
    """The rows where `where`, bool (rows,), is true, to be taken in chunks: (order, their number).

    Entry k of `order`, int32 (rows + chunk,), is the k-th of them; the other entries point past the end.
    """
    rows = len(where)
    rank = jnp.cumsum(jnp.int32(where)) - 1
    order = jnp.full(rows + chunk, rows, jnp.int32)
    order = order.at[jnp.where(where, rank, rows + chunk)].set(jnp.arange(rows, dtype=jnp.int32), mode="drop")
    return order, rank[-1] + 1


def with_rows_joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(shared, *rows, of_each=False) -> rows`, mapped by joining the mapped axis to the rows.

    `rows` are pytrees whose leaves have an axis of rows in front, like the result. Under
    `vmap` the leaves of `shared` may be mapped too: then they also have an axis of rows, and
    `of_each=True` tells `function` so. In this way a `cond` stays a cond, and chunks stay full, when
    many seeds train at once.
    """

    @functools.cache
    def joined(of_each: bool) -> Any:
        @custom_vmap
        def call(shared: Any, rows: Any) -> Any:
            return function(shared, *rows, of_each=of_each)

        @call.def_vmap
        def rule(axis_size: int, in_batched: Any, shared: Any, rows: Any) -> Any:
            shared_batched, rows_batched = in_batched
            first, batched = jax.tree.leaves(rows)[0], jax.tree.leaves(rows_batched)[0]
            num_rows = first.shape[1 if batched else 0]
            own = of_each or any(jax.tree.leaves(shared_batched))

            def spread(x: Array, batched: bool) -> Array:
                return x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))

            def merge(x: Array, batched: bool) -> Array:
                x = spread(x, batched)
                return x.reshape(axis_size * num_rows, *x.shape[2:])

            def merge_shared(x: Array, batched: bool) -> Array:
                return merge(x, batched) if of_each else jnp.repeat(spread(x, batched), num_rows, axis=0)

            if own:
                shared = jax.tree.map(merge_shared, shared, shared_batched)
            out = joined(own)(shared, jax.tree.map(merge, rows, rows_batched))
            out = jax.tree.map(lambda x: x.reshape(axis_size, num_rows, *x.shape[1:]), out)
            return out, jax.tree.map(lambda _: True, out)

        return call

    return lambda shared, *rows: joined(False)(shared, rows)
