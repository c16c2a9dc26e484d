"""Policies: `ActorCritic`, and the protocol that your own Flax module must follow.

A policy is a Flax Linen module with two methods. Let T be the number of steps, R of
rows (agents, all independent of each other) and n of actions.

`initialize_carry(rows)` returns what the policy remembers of `rows` agents before their
first step: a pytree of float32 arrays whose first axis has length `rows`, all zeros, or
`()` for a policy without memory. It is called on the module alone, without parameters.

`__call__(carry, obs, reset, mask)` plays T steps of R agents in order:

    carry   the pytree as it was after the previous step, first axis R
    obs     (T, R, *observation_space.shape), dtype of the observation space
    reset   bool (T, R), true where obs is the first of an episode
    mask    bool (T, R, n), true where an action is legal, or None if all are

and returns `(carry, distribution, value)`: the carry after the last step, with the
same structure, shapes and dtypes as the given one; a distribution of `jaxpuffer.distributions`
whose arrays are float32 with the first axes (T, R), for example logits (T, R, n); and values,
float32 (T, R).

A step whose reset is true must see a carry of zeros, no matter what was passed in. The rollout
calls with T = 1 and hands the carry on, the loss calls once with the whole horizon from
the carry at its start; both must compute the same. Rows come in any number and order.
"""

import functools
import math
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer.devices import on_cpu
from jaxpuffer.distributions import Categorical, Distribution, Joint, Normal
from jaxpuffer.recurrence import recur
from jaxpuffer.spaces import Box, Composite, Discrete, Mixed, ObservationSpace, Space, choices, mask_sizes, named_parts

ACTIVATIONS = {"gelu": nn.gelu, "relu": nn.relu, "tanh": nn.tanh}
ENCODERS = ("flat", "embedding", "grid", "entity", "image")
POLICIES = ("linear", "mlp", "mingru", "lstm")
RECURRENT = ("mingru", "lstm")
SCANS = ("sequential", "parallel")
DTYPES = ("float32", "bfloat16")

EMBEDDING_WIDTH = 8  # numbers that represent a tile
GRID_CHANNELS = (16, 32)  # of the two convolutions
IMAGE_CHANNELS = (16, 32, 32)  # of the three convolutions
MANY_KINDS = 100  # of tiles; more are likely to be amounts
MAX_INPUTS = 200_000  # of a first layer: 26 million weights with 128 units

orthogonal = nn.initializers.orthogonal


class ActorCritic(nn.Module):
    """An encoder of observations, a core, and one head for the actor and one for the critic.

    Encoders:
        flat: all numbers in a row; integer tiles as one-hot vectors.
        embedding: each integer tile as 8 learned numbers, in a row.
        grid: integer tiles (h, w), a perfect square of them, or (h, w, planes), or float planes (h, w, planes),
            through two convolutions and a layer of `hidden`.
        image: (h, w, channels), integers scaled to 0..1, through three convolutions and a layer of `hidden`.
        entity: floats (entities, features), the largest of each feature over the entities; their order has no effect.

    An observation of several parts has an encoder for each: the one that is named for those parts that it is for
    (grid: of two axes or three), and flat for the others. The encoded parts stand side by side.

    Policies:
        linear: the heads see the encoded observation.
        mlp: `layers` layers of `hidden` units.
        mingru: `layers` MinGRUs of `hidden` units; carry float32 (rows, layers, hidden).
        lstm: `layers` LSTMs of `hidden` units; carry a pair (h, c) of these.

    Parameters, carries, logits and values are float32; the layers between are computed in `dtype`.
    """

    observation_space: ObservationSpace
    action_space: Space
    hidden: int = 128
    layers: int = 1
    activation: str = "gelu"  # of mlp, of lstm's first layer, and of the grid and entity encoders
    separate_critic: bool = False  # give the critic its own encoder and core; linear and mlp only
    policy: str = "mlp"
    encoder: str = "flat"
    dtype: Any = jnp.float32  # or jnp.bfloat16
    scan: str = "sequential"  # how mingru computes its states over time in training; or parallel

    def __post_init__(self) -> None:
        choices = {
            "activation": (self.activation, tuple(ACTIVATIONS)),
            "policy": (self.policy, POLICIES),
            "encoder": (self.encoder, ENCODERS),
            "dtype": (jnp.dtype(self.dtype).name, DTYPES),
            "scan": (self.scan, SCANS),
        }
        for field, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f"ActorCritic.{field} is {value!r}; it must be one of {', '.join(allowed)}")
        if self.policy in RECURRENT and self.separate_critic:
            raise ValueError(f"separate_critic is for the policies linear and mlp, not for {self.policy}")
        if self.policy in RECURRENT and self.layers < 1:
            raise ValueError(f"layers is {self.layers}; the policy {self.policy} needs at least 1")
        check_encoders(self.encoder, self.observation_space)
        super().__post_init__()

    def initialize_carry(self, rows: int) -> Any:
        """The memory of `rows` agents before their first step; see the class for its shape."""
        # separate arrays, since one buffer cannot be donated twice
        zeros = [jnp.zeros((rows, self.layers, self.hidden), jnp.float32) for _ in range(2)]
        return {"mingru": zeros[0], "lstm": tuple(zeros)}.get(self.policy, ())

    @nn.compact
    def __call__(self, carry: Any, obs: Any, reset: Array, mask: Array | None) -> tuple[Any, Distribution, Array]:
        """`obs` (time, rows, ...) to (carry, distribution, value float32 (time, rows)); see the module's protocol."""

        def body(prefix: str) -> tuple[Any, Array]:
            x = self._encode(obs, prefix + "encoder")
            new_carry, x = self._core(carry, x, reset, prefix + "core")
            return new_carry, jnp.float32(x)

        new_carry, for_actor = body("")
        for_critic = body("critic_")[1] if self.separate_critic else for_actor
        # the MinGRU's decoder has no biases either, and weights like the other layers'
        linear = {"use_bias": False, "kernel_init": uniform(1.0)} if self.policy == "mingru" else {}
        distribution = actor_head(self.action_space, for_actor, mask, **linear)
        critic = Dense(1, name="critic", **linear)
        return new_carry, distribution, critic(for_critic)[..., 0]

    def _encode(self, obs: Any, name: str) -> Array:
        encoders = encoder_of_parts(self.encoder, self.observation_space)
        encoded = [
            self._encode_part(encoder, space, x, f"{name}_{part}" if part else name)
            for encoder, (part, space), x in zip(
                encoders, named_parts(self.observation_space), jax.tree.leaves(obs), strict=True
            )
        ]
        if len(encoded) == 1:
            return encoded[0]
        return jnp.concatenate([x.astype(jnp.float32) for x in encoded], -1)

    def _encode_part(self, encoder: str, space: Space, obs: Array, name: str) -> Array:
        match encoder:
            case "flat":
                return encode(space, obs)
            case "embedding":
                return EmbeddingEncoder(space, self.dtype, name=name)(obs)
            case "image":
                return ImageEncoder(space, self.hidden, self.activation, self.dtype, name=name)(obs)
            case "grid":
                return GridEncoder(space, self.hidden, self.activation, self.dtype, name=name)(obs)
            case _:
                return EntityEncoder(self.hidden, self.activation, self.dtype, name=name)(obs)

    def _core(self, carry: Any, x: Array, reset: Array, name: str) -> tuple[Any, Array]:
        match self.policy:
            case "linear":
                return carry, x
            case "mlp":
                return carry, feed_forward(x, self.hidden, self.layers, self.activation, self.dtype)
            case "mingru":
                return MinGRU(self.hidden, self.layers, self.dtype, self.scan, name=name)(carry, x, reset)
            case _:
                return LSTM(self.hidden, self.layers, self.activation, self.dtype, name=name)(carry, x, reset)


# Linear layers

# up to this many inputs or outputs it is faster to transpose that side of a weight gradient first
FEW_INPUTS, FEW_OUTPUTS = 4, 8
SMALL_LAYER, BLOCK = 64, 256  # up to this many units, blocks of so many rows, transposed, are faster


@jax.custom_vjp
def matmul(x: Array, kernel: Array) -> Array:
    """x (rows, inputs) times kernel (inputs, outputs), with a gradient that suits XLA's CPU backend.

    With JAX's own gradient it transposes the outputs' gradient and not x, and then multiplies
    several times more slowly.
    """
    return x @ kernel


def _matmul_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matmul_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return gradient @ kernel.T, kernel_gradient(x, gradient)


matmul.defvjp(_matmul_forward, _matmul_backward)


def kernel_gradient(x: Array, gradient: Array) -> Array:
    """x.T (inputs, rows) times the outputs' gradient (rows, outputs)."""
    (rows, inputs), outputs = x.shape, gradient.shape[1]
    if not on_cpu():
        return lax.dot_general(x, gradient, (((0,), (0,)), ((), ())))
    # barriers, so that XLA does not merge transposition and product again
    if outputs <= FEW_OUTPUTS:
        return lax.optimization_barrier(lax.optimization_barrier(gradient.T) @ x).T
    if inputs <= FEW_INPUTS:
        return lax.optimization_barrier(x.T) @ gradient
    if max(inputs, outputs) <= SMALL_LAYER and rows % BLOCK == 0:
        block = rows if rows <= 2 * BLOCK else BLOCK
        blocks = lax.optimization_barrier(x.reshape(-1, block, inputs).swapaxes(1, 2))
        return (blocks @ gradient.reshape(-1, block, outputs)).sum(0)
    return lax.dot_general(x, gradient, (((0,), (0,)), ((), ())))


class Dense(nn.Module):
    """A linear layer, (..., inputs) to `dtype` (..., features), with float32 parameters."""

    features: int
    kernel_init: Any = orthogonal(1.0)
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = matmul(x.reshape(-1, x.shape[-1]).astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), (self.features,)).astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


# Convolutions


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """Images (n, h, w, inputs) with a kernel (k, k, inputs, outputs), padded so that 1 / stride of h and w remains.

    On a CPU the gradient is made of products of matrices: inside a loop, XLA computes the gradient of a convolution
    there 10 to 40 times as slowly as outside.
    """
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout)


def _convolve_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if not on_cpu():
        return jax.vjp(lambda x, kernel: convolve.fun(x, kernel, stride), x, kernel)[1](gradient)
    flat = gradient.reshape(-1, gradient.shape[-1])
    of_x, of_kernel = jnp.zeros_like(x), []
    for i, row in enumerate(kernel):  # the windows of all rows together would take k times the memory
        windows, pull = jax.vjp(lambda x, i=i: _windows(x, i, kernel.shape[0], stride), x)
        row = row.reshape(-1, row.shape[-1])
        of_kernel.append(kernel_gradient(windows.reshape(-1, len(row)), flat))
        of_x += pull((flat @ row.T).reshape(windows.shape))[0]
    return of_x, jnp.stack(of_kernel).reshape(kernel.shape)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _windows(x: Array, i: int, k: int, stride: int) -> Array:
    """The inputs of row i of a k by k kernel at each place of images (n, h, w, inputs), (n, h', w', k * inputs)."""
    outputs = [-(-n // stride) for n in x.shape[1:3]]
    added = [max((out - 1) * stride + k - n, 0) for out, n in zip(outputs, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in added), (0, 0)))
    down, right = ((out - 1) * stride + 1 for out in outputs)
    return jnp.concatenate([x[:, i : i + down : stride, j : j + right : stride] for j in range(k)], -1)


class Conv(nn.Module):
    """A convolution with bias, (time, rows, h, w, inputs) to `dtype` (time, rows, h', w', features)."""

    features: int
    size: int  # of the kernel's sides
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = self.size, self.size, x.shape[-1], self.features
        kernel = self.param("kernel", orthogonal(2**0.5), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        images = x.reshape(-1, *x.shape[2:]).astype(self.dtype)
        y = convolve(images, kernel.astype(self.dtype), self.stride) + bias.astype(self.dtype)[None, None, None]
        return y.reshape(*x.shape[:2], *y.shape[1:])


# Encoders: observations (time, rows, ...) to features (time, rows, features)


def encoder_of_parts(encoder: str, space: ObservationSpace) -> list[str]:
    """The encoder of each part of an observation; of one that is an array, the one that is named."""
    if not isinstance(space, Composite):
        return [encoder]
    return [encoder if _is_for(encoder, part) else "flat" for _, part in space.parts]


def _is_for(encoder: str, part: Space) -> bool:
    """Whether a part of an observation goes through an encoder other than flat."""
    return encoder != "flat" and not _needs(encoder, part) and (encoder != "grid" or len(part.shape) > 1)


def check_encoders(encoder: str, space: ObservationSpace) -> None:
    """Raise a TypeError if observations of `space` cannot go through this encoder."""
    encoders = encoder_of_parts(encoder, space)
    if encoder not in encoders:
        needed = _needs(encoder, Discrete(1))
        raise TypeError(
            f"the encoder {encoder} needs {needed}; no part of the observation space {space} is one. The encoder flat "
            "accepts any"
        )
    for own, (_, part) in zip(encoders, named_parts(space), strict=True):
        check_encoder(own, part)
    inputs = sum(
        _flat_inputs(part) for own, (_, part) in zip(encoders, named_parts(space), strict=True) if own == "flat"
    )
    if inputs > MAX_INPUTS:
        raise TypeError(
            f"the encoder flat would make {inputs:,} numbers from an observation of {space}; at most "
            f"{MAX_INPUTS:,} are reasonable"
        )


def check_encoder(encoder: str, space: Space) -> None:
    """Raise a TypeError if observations of `space`, of one array, cannot go through this encoder."""
    if encoder == "flat":
        kinds = _kinds(space) if isinstance(space, Box) and space.is_tiles else 1
        inputs = _flat_inputs(space)
        if inputs > MAX_INPUTS:
            raise TypeError(
                f"the encoder flat would make {inputs:,} numbers from an observation of {space}; at most "
                f"{MAX_INPUTS:,} are reasonable. For an image (h, w, channels) use encoder='image', "
                "for tiles encoder='embedding' or 'grid'"
            )
        if kinds > MANY_KINDS:
            warnings.warn(
                f"the encoder flat reads an observation of {space} as tiles of {kinds:,} kinds, each a one-hot vector; "
                "whole numbers that measure something are better in a Box of float32",
                stacklevel=2,
            )
        return
    if needed := _needs(encoder, space):
        raise TypeError(
            f"the encoder {encoder} needs {needed}; the observation space is {space}. The encoder flat accepts any"
        )


def _flat_inputs(space: Space) -> int:
    """Numbers that the encoder flat makes of an observation; of choices one for each entry."""
    return math.prod(space.shape) * (_kinds(space) if isinstance(space, Box) and space.is_tiles else 1)


def _needs(encoder: str, space: Space) -> str:
    """What an encoder needs and the space of an array is not, in words; "" if it fits."""
    tiles = isinstance(space, Box) and space.is_tiles
    if encoder == "image" and (not isinstance(space, Box) or len(space.shape) != 3 or min(space.shape[:2]) < 8):
        return "a Box of shape (h, w, channels), with h and w of at least 8"
    if encoder == "embedding" and not tiles:
        return "a Box of integers"
    if encoder == "grid" and not (isinstance(space, Box) and _grid_shape(space)):
        return (
            "a Box of integers of shape (h, w), (h, w, planes), or (n,) with n a perfect square, or of floats of shape "
            "(h, w, planes)"
        )
    if encoder == "entity" and (tiles or len(space.shape) != 2):
        return "a Box of floats of shape (entities, features)"
    return ""


def encode(space: Space, obs: Array) -> Array:
    """Observations (time, rows, ...) as float32 (time, rows, features); tiles and choices become one-hot vectors."""
    if isinstance(space, Box):
        obs = _one_hot(space, obs) if space.is_tiles else obs
        return jnp.float32(obs).reshape(*obs.shape[:2], -1)
    flat, columns, start = obs.reshape(*obs.shape[:2], -1), [], 0
    for part in space.parts if isinstance(space, Mixed) else (space,):
        for n in choices(part) or (0,) * part.shape[0]:
            entry = flat[..., start]
            columns.append(
                jax.nn.one_hot(jnp.int32(entry), n, dtype=jnp.float32) if n else jnp.float32(entry)[..., None]
            )
            start += 1
    return jnp.concatenate(columns, -1)


class EmbeddingEncoder(nn.Module):
    """Tiles (time, rows, ...) to (time, rows, tiles * 8): a learned vector for each kind of tile."""

    space: Any  # a Box of integers
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        # a gather: on a CPU, 1.5 times as fast as one-hot vectors times the table
        x = nn.Embed(_kinds(self.space), EMBEDDING_WIDTH, dtype=self.dtype)(_tile_index(self.space, obs))
        return x.reshape(*obs.shape[:2], -1)


class GridEncoder(nn.Module):
    """Tiles (time, rows, h, w), (time, rows, h, w, planes) or (time, rows, h * h), to (time, rows, hidden).

    One-hot vectors (float planes stay as they are), two 3x3 convolutions with ReLU of which the second halves the
    grid, a layer.
    """

    space: Any  # a Box
    hidden: int
    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        h, w, *_ = shape = _grid_shape(self.space)
        x = obs.reshape(*obs.shape[:2], *shape)
        x = (_one_hot(self.space, x) if self.space.is_tiles else x).reshape(*obs.shape[:2], h, w, -1)
        for channels, stride in zip(GRID_CHANNELS, (1, 2), strict=True):
            x = Conv(channels, 3, stride, self.dtype)(x)
            x = nn.relu(x)  # for every choice of activation: there are many numbers here, and the others are costly
        x = x.reshape(*obs.shape[:2], -1)
        x = Dense(self.hidden, kernel_init=orthogonal(2**0.5), dtype=self.dtype)(x)
        return ACTIVATIONS[self.activation](x)


class ImageEncoder(nn.Module):
    """Images (time, rows, h, w, channels) to (time, rows, hidden).

    Three convolutions with ReLU, 8x8 by 4, 4x4 by 2 and 3x3, a layer: those of Mnih et al., 2015, with half the
    channels. Images below 36 pixels go through 4x4 by 2, 3x3 by 2 and 3x3.
    """

    space: Any  # a Box
    hidden: int
    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        x = jnp.float32(obs)
        if self.space.is_tiles:
            low, high = self.space.bounds()
            x = (x - float(low.min())) * (1.0 / float(high.max() - low.min()))
        large = min(self.space.shape[:2]) >= 36
        kernels, strides = ((8, 4, 3), (4, 2, 1)) if large else ((4, 3, 3), (2, 2, 1))
        for channels, kernel, stride in zip(IMAGE_CHANNELS, kernels, strides, strict=True):
            x = nn.relu(Conv(channels, kernel, stride, self.dtype)(x))
        x = Dense(self.hidden, kernel_init=orthogonal(2**0.5), dtype=self.dtype)(x.reshape(*obs.shape[:2], -1))
        return ACTIVATIONS[self.activation](x)


class EntityEncoder(nn.Module):
    """Floats (time, rows, entities, features) to (time, rows, hidden), the same in any order of the entities.

    Each entity's features are normalised over themselves, so they should be several.
    """

    hidden: int
    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        x = nn.LayerNorm()(obs)
        x = Dense(self.hidden, kernel_init=orthogonal(2**0.5), dtype=self.dtype)(x)
        x = ACTIVATIONS[self.activation](x)
        return Dense(self.hidden, kernel_init=orthogonal(1.0), dtype=self.dtype)(x).max(-2)


def _grid_shape(space: Any) -> tuple[int, ...]:
    """(h, w) or (h, w, planes) of a grid of tiles, or of float planes, () if the shape is not one of these."""
    if len(space.shape) == 3 or not space.is_tiles:
        return space.shape if len(space.shape) == 3 else ()
    if len(space.shape) == 2:
        return space.shape
    side = math.isqrt(math.prod(space.shape))
    return (side, side) if space.shape == (side * side,) else ()


def _kinds(space: Box) -> int:
    low, high = space.bounds()
    return int(high.max()) - int(low.min()) + 1


def _tile_index(space: Box, obs: Array) -> Array:
    return jnp.int32(obs) - int(space.bounds()[0].min())


def _one_hot(space: Box, obs: Array) -> Array:
    return jax.nn.one_hot(_tile_index(space, obs), _kinds(space), dtype=jnp.float32)


# Cores: features (time, rows, features) to (time, rows, hidden), the recurrent ones with a carry


def feed_forward(x: Array, hidden: int, layers: int, activation: str, dtype: Any) -> Array:
    """`layers` layers of `hidden` units, `dtype` (time, rows, hidden); to be called inside a module's `__call__`."""
    for _ in range(layers):
        x = Dense(hidden, kernel_init=orthogonal(2**0.5), dtype=dtype)(x)
        x = ACTIVATIONS[activation](x)
    return x


class MinGRU(nn.Module):
    """PufferLib 4.0's stack of MinGRUs (Feng et al., 2024, arXiv 2410.01201) with highway gates, without biases.

        x = encoder(x)
        candidate, gate, highway = split(layer(x))                          for each layer
        h = (1 - sigmoid(gate)) * h_before + sigmoid(gate) * g(candidate)
        x = sigmoid(highway) * h + (1 - sigmoid(highway)) * x

    where g(u) is u + 0.5 if u >= 0, otherwise sigmoid(u). Weights are uniform up to
    sqrt(2 / fan_in) in the encoder and 1 / sqrt(fan_in) in the layers. The products with
    weights are computed in `dtype`, everything else in float32.
    """

    hidden: int
    layers: int
    dtype: Any = jnp.float32
    scan: str = "sequential"

    @nn.compact
    def __call__(self, carry: Array, x: Array, reset: Array) -> tuple[Array, Array]:
        """Carry float32 (rows, layers, hidden), x (time, rows, features), reset bool (time, rows).

        Returns the carry after the last step and float32 (time, rows, hidden).
        """

        def dense(units: int, gain: float, name: str) -> Dense:
            return Dense(units, use_bias=False, kernel_init=uniform(gain), dtype=self.dtype, name=name)

        one_by_one = self.scan == "sequential" or len(x) == 1
        recurrence = mingru_sequential if one_by_one else mingru_parallel
        x = jnp.float32(dense(self.hidden, 2**0.5, "encoder")(x))
        last = []
        for i in range(self.layers):
            projected = jnp.float32(dense(3 * self.hidden, 1.0, f"layer_{i}")(x))
            candidate, gate, highway = jnp.split(projected, 3, axis=-1)
            h = recurrence(carry[:, i], candidate, gate, reset)
            last.append(h[-1])
            share = nn.sigmoid(highway)
            x = share * h + (1.0 - share) * x
        return jnp.stack(last, axis=1), x


def mingru_parallel(start: Array, candidate: Array, gate: Array, reset: Array) -> Array:
    """MinGRU's states h after each step, by an associative scan over logarithms.

    Args:
        start: h before the first step, float32 (rows, hidden).
        candidate: before g, float32 (time, rows, hidden).
        gate: before the sigmoid, float32 (time, rows, hidden).
        reset: bool (time, rows); h is zero before a step where it is true.

    Returns:
        h, float32 (time, rows, hidden).
    """
    # h_t = keep_t h_{t-1} + add_t; a keep of 0 forgets everything, and the scan never subtracts its logarithm
    log_keep = jnp.where(reset[..., None], -jnp.inf, -nn.softplus(gate))
    positive = jnp.where(candidate >= 0, candidate, 0.0)  # so that neither branch has a NaN in its gradient
    log_g = jnp.where(candidate >= 0, jnp.log(positive + 0.5), -nn.softplus(-candidate))
    log_add = -nn.softplus(-gate) + log_g

    def join(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        return earlier[0] + later[0], jnp.logaddexp(earlier[1] + later[0], later[1])

    log_kept, log_added = lax.associative_scan(join, (log_keep, log_add))
    # no logarithm of start: it may be zero
    return jnp.exp(log_kept) * start[None] + jnp.exp(log_added)


def mingru_sequential(start: Array, candidate: Array, gate: Array, reset: Array) -> Array:
    """The same as `mingru_parallel`, computed one step after the other."""
    keep = jnp.where(reset[..., None], 0.0, nn.sigmoid(-gate))
    add = nn.sigmoid(gate) * jnp.where(candidate >= 0, candidate + 0.5, nn.sigmoid(candidate))
    return recur(start, keep, add)


class LSTM(nn.Module):
    """PufferLib 3.0's recurrent core: a layer with activation, then LSTMs (Hochreiter & Schmidhuber, 1997).

        i, f, g, o = split(x W_x + bias + h_before W_h)
        c = sigmoid(f) * c_before + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)

    W_x and W_h are orthogonal, biases start at zero. The products with weights are
    computed in `dtype`, the recurrence in float32.
    """

    hidden: int
    layers: int
    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], x: Array, reset: Array) -> tuple[tuple[Array, Array], Array]:
        """Carry (h, c), each float32 (rows, layers, hidden), x (time, rows, features), reset bool (time, rows).

        Returns the carry after the last step and float32 (time, rows, hidden).
        """
        x = Dense(self.hidden, kernel_init=orthogonal(2**0.5), dtype=self.dtype, name="encoder")(x)
        x = ACTIVATIONS[self.activation](x)
        last = []
        for i in range(self.layers):
            # x W_x of all steps is one product; only h W_h has to wait for the previous step
            from_input = Dense(4 * self.hidden, use_bias=False, dtype=self.dtype, name=f"layer_{i}")(x)
            bias = self.param(f"bias_{i}", nn.initializers.zeros_init(), (4 * self.hidden,))
            from_memory = self.param(f"recurrent_{i}", orthogonal(1.0), (self.hidden, 4 * self.hidden))
            start = (carry[0][:, i], carry[1][:, i])
            end, x = lstm_scan(start, jnp.float32(from_input), bias, from_memory.astype(self.dtype), reset)
            last.append(end)
        h, c = zip(*last, strict=True)
        return (jnp.stack(h, axis=1), jnp.stack(c, axis=1)), x


@jax.custom_vjp
def lstm_scan(
    start: tuple[Array, Array], from_input: Array, bias: Array, from_memory: Array, reset: Array
) -> tuple[tuple[Array, Array], Array]:
    """An LSTM over time, with a gradient that does little in the loop and leaves W_h's for one product after it.

    Args:
        start: (h, c) before the first step, each float32 (rows, hidden).
        from_input: x W_x, float32 (time, rows, 4 * hidden), the gates in the order i, f, g, o.
        bias: float32 (4 * hidden,).
        from_memory: W_h, (hidden, 4 * hidden).
        reset: bool (time, rows); h and c are zero before a step where it is true.

    Returns:
        (h, c) after the last step, and h after each, float32 (time, rows, hidden).
    """
    return _lstm_forward(start, from_input, bias, from_memory, reset)[0]


def _lstm_forward(
    start: tuple[Array, Array], from_input: Array, bias: Array, from_memory: Array, reset: Array
) -> tuple[Any, Any]:
    def step(carried: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Any]:
        from_input, reset = inputs
        h_before, c_before = (jnp.where(reset[:, None], 0.0, x) for x in carried)
        gates = from_input + bias[None] + jnp.float32(h_before.astype(from_memory.dtype) @ from_memory)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
        c = f * c_before + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, (h_before, c_before, i, f, g, o))

    end, (h, (h_before, *steps)) = lax.scan(step, start, (from_input, reset))
    return (end, h), (h_before, steps, from_input, from_memory, reset)


def _lstm_backward(saved: Any, gradients: tuple[tuple[Array, Array], Array]) -> tuple[Any, Array, Array, Array, None]:
    h_before, steps, from_input, from_memory, reset = saved
    end, each_h = gradients

    def step(carried: tuple[Array, Array, Array], inputs: Any) -> tuple[tuple[Array, Array, Array], None]:
        h, c, all_gates = carried  # of h and c: the gradients that come from the later steps
        t, each_h, (c_before, i, f, g, o), reset = inputs
        tanh_c = jnp.tanh(f * c_before + i * g)
        h = h + each_h
        c = c + h * o * (1.0 - tanh_c**2)
        parts = (c * g * i * (1.0 - i), c * c_before * f * (1.0 - f), c * i * (1.0 - g**2), h * tanh_c * o * (1.0 - o))
        gates = jnp.concatenate(parts, axis=-1)
        h = jnp.float32(gates.astype(from_memory.dtype) @ from_memory.T)
        h, c = (jnp.where(reset[:, None], 0.0, x) for x in (h, c * f))
        return (h, c, lax.dynamic_update_index_in_dim(all_gates, gates, t, 0)), None

    # into the place of from_input, which is no longer needed: a scan's own output would first be filled with zeros
    times = jnp.arange(len(reset), dtype=jnp.int32)
    begin_with = (*end, from_input)
    (*start, gates), _ = lax.scan(step, begin_with, (times, each_h, steps, reset), reverse=True)
    flat_h, flat_gates = (x.reshape(-1, x.shape[-1]) for x in (h_before, gates))
    of_memory = kernel_gradient(flat_h.astype(from_memory.dtype), flat_gates.astype(from_memory.dtype))
    return tuple(start), gates, flat_gates.sum(0), of_memory, None


lstm_scan.defvjp(_lstm_forward, _lstm_backward)


def uniform(gain: float) -> Any:
    """An initialiser: uniform between -gain / sqrt(fan_in) and gain / sqrt(fan_in)."""
    return nn.initializers.variance_scaling(gain**2 / 3, "fan_in", "uniform")


def actor_head(space: Space, x: Array, mask: Array | None, **linear: Any) -> Distribution:
    """The distribution over actions; to be called inside a module's `__call__`.

    All choices share one linear layer; numbers have one for their means and a learned
    log-std. Of a bounded entry, these are in units of half its range, measured from its middle
    (`action_units`); of an unbounded entry they are the mean and the log-std
    themselves. Both start near 0. The mask, bool (..., n), has an entry for each choice of each Discrete or
    MultiDiscrete part in order. `linear` are fields of the layers, whose weights are by default
    orthogonal times 0.01.
    """
    linear = {"kernel_init": orthogonal(0.01)} | linear
    parts = space.parts if isinstance(space, Mixed) else (space,)
    numbers = mask_sizes(space)
    for part in parts:
        if isinstance(part, Box) and (part.is_tiles or len(part.shape) != 1):
            raise TypeError(
                f"no head for the action space {space}; there are heads for Discrete, MultiDiscrete, "
                "one-dimensional float Box, and Mixed of these"
            )

    categoricals = []
    if numbers:
        logits = Dense(sum(numbers), name="actor", **linear)(x)
        for i, n in enumerate(numbers):
            columns = slice(sum(numbers[:i]), sum(numbers[:i]) + n)
            part_mask = None if mask is None else mask[..., columns]
            categoricals.append(Categorical.masked(logits[..., columns], part_mask))
    if isinstance(space, Discrete):
        return categoricals[0]

    units = [action_units(part) for part in parts if isinstance(part, Box)]
    if units:
        middle, half = (np.concatenate(each) for each in zip(*units, strict=True))
        mean = Dense(len(half), name="actor_mean" if numbers else "actor", **linear)(x)
        log_std = _LogStd(len(half), name="log_std")()
        if (half != 1).any() or middle.any():
            lead = (None,) * (mean.ndim - 1)
            mean = jnp.asarray(middle)[lead] + jnp.asarray(half)[lead] * mean
            log_std = log_std + jnp.log(jnp.asarray(half))
        if isinstance(space, Box):
            return Normal(mean, log_std)

    # the parts in the space's order
    ordered: list[Categorical | Normal] = []
    start = 0
    for part in parts:
        if isinstance(part, Box):
            size = part.shape[0]
            ordered.append(Normal(mean[..., start : start + size], log_std[start : start + size]))
            start += size
        else:
            for _ in choices(part):
                ordered.append(categoricals.pop(0))
    return Joint(tuple(ordered), space.dtype)


def action_units(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half the range of each entry, float32 (entries,).

    0 and 1 for an unbounded one; with one bound, the middle is 1 away from it, so that draws are legal.
    """
    low, high = space.drawn_between()
    apart = high.astype(np.float32).astype(np.float64) - low.astype(np.float32)
    if not ((apart >= 1e-30) & (apart <= 1e30)).all():
        raise ValueError(f"the action space is {space}; in float32 its bounds must be 1e-30 to 1e30 apart")
    return ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)


class _LogStd(nn.Module):
    size: int

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", nn.initializers.zeros_init(), (self.size,))
