"""Elementary functions with the same bits everywhere. Twin of envs_c/numerics.h.

XLA's own polynomials differ from every C library's. These are plain float32
additions, multiplications, divisions and one square root, in a fixed order.
C without contraction and XLA on the CPU without FMA instructions compute the same,
to the last bit. If multiply-adds are fused, the last places differ, but the errors
below still hold.

All functions are elementwise: float32 of any shape in, float32 of that shape out
(two arguments broadcast). They can be differentiated, any number of times.

======  ==============================  ========  ==================================
name    range                           error     outside the range
======  ==============================  ========  ==================================
sin     ``|x| <= 10000``                1.6 ULP   NaN
cos     ``|x| <= 10000``                1.6 ULP   NaN
exp     -87.33654 to 88.72283           1.0 ULP   0 below, infinity above
log     the positive normal numbers     1.0 ULP   -infinity at 0, NaN below
tanh    all                             1.4 ULP
atan2   finite, not both zero           1.9 ULP   0 at the origin
unit    1e-15 <= length, components     2.0 ULP   the zero vector
        up to 1e19
======  ==============================  ========  ==================================

Correct rounding would have an error of half a ULP. NaN gives NaN. Zeros have no
sign, -0 is 0: ``atan2(-0, -1)`` is pi, not -pi. Processors differ on denormals
(below 1.2e-38), in arguments and in results: their bits may differ, and
a denormal may count as zero.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

SMALLEST_NORMAL = 1.17549435e-38

# sin and cos: the largest angle
ANGLE_MAX = 10000.0
TWO_OVER_PI = 0.636619747

# pi / 2 in five parts. The products of the first four with a count of quarter turns below 2^13
# are exact, so the subtractions lose nothing next to a multiple of pi / 2.
HALF_PI_1 = 1.5703125
HALF_PI_2 = 4.83751297e-4
HALF_PI_3 = 7.54953362e-8
HALF_PI_4 = 2.55795385e-12
HALF_PI_5 = 5.39030295e-15

# exp: outside of this the result is not a normal number
EXP_MIN = -87.3365402
EXP_MAX = 88.7228317
LOG2_E = 1.44269502

# ln 2 in two parts; the product of the first with an exponent is exact
LN2_HIGH = 0.693145752
LN2_LOW = 1.42860677e-6

# tanh: below this a polynomial, above it the exponential
TANH_SMALL = 0.625

# atan2: angles as the nearest float and its error
PI_HIGH = 3.14159274
PI_LOW = -8.74227766e-8
HALF_PI_HIGH = 1.57079637
HALF_PI_LOW = -4.37113883e-8

# unit: squared length below which a vector counts as zero; 2^60 for vectors of components below 1
UNIT_MIN_SQUARED = 1e-30
UNIT_SCALE = 1152921504606846976.0


def _to_bits(x: Array) -> Array:
    return lax.bitcast_convert_type(x, jnp.uint32)


def _from_bits(bits: Array) -> Array:
    return lax.bitcast_convert_type(bits, jnp.float32)


def _upper_half(x: Array) -> Array:
    # the first 12 of 24 binary digits: their square is exact, and so is x minus them
    return _from_bits(_to_bits(x) & jnp.uint32(0xFFFFF000))


def _nearest(x: Array) -> Array:
    # the nearest integer, halves away from zero, |x| < 2^22
    return (x + jnp.where(x < 0.0, -0.5, 0.5)).astype(jnp.int32)


def _quarter_turns(x: Array) -> tuple[Array, Array]:
    # x = quarter * pi / 2 + r with |r| <= pi / 4; NaN if x is out of range
    inside = jnp.abs(x) <= ANGLE_MAX
    # selected first: XLA cannot fold a factor of the caller's into this one
    quarter = _nearest(jnp.where(inside, x, 0.0) * TWO_OVER_PI)
    k = jnp.float32(quarter)
    rest = (x - k * HALF_PI_1) - k * HALF_PI_2
    # exact up to here; the rounding error of the third difference goes into the fourth
    part = k * HALF_PI_3
    third = rest - part
    taken = (rest - third) - part
    rest = (third - (k * HALF_PI_4 - taken)) - k * HALF_PI_5
    return quarter, jnp.where(inside, rest, jnp.nan)


def _sin_quarter(r: Array) -> Array:
    # sine of |r| <= pi / 4
    z = r * r
    p = (-1.95182773e-4 * z + 8.33218917e-3) * z + -0.166666552
    return r + r * (z * p)


def _cos_quarter(r: Array) -> Array:
    # cosine of |r| <= pi / 4
    z = r * r
    p = (2.44325602e-5 * z + -1.38873106e-3) * z + 4.16666456e-2
    return 1.0 + z * (z * p + -0.5)


@jax.custom_jvp
def sin(x: ArrayLike) -> Array:
    """Sine of an angle in radians, ``|x| <= 10000``; NaN outside."""
    quarter, r = _quarter_turns(jnp.asarray(x, jnp.float32))
    y = jnp.where((quarter & 1) != 0, _cos_quarter(r), _sin_quarter(r))
    return jnp.where((quarter & 2) != 0, -y, y)


@jax.custom_jvp
def cos(x: ArrayLike) -> Array:
    """Cosine of an angle in radians, ``|x| <= 10000``; NaN outside."""
    quarter, r = _quarter_turns(jnp.asarray(x, jnp.float32))
    y = jnp.where((quarter & 1) != 0, _sin_quarter(r), _cos_quarter(r))
    return jnp.where(((quarter + 1) & 2) != 0, -y, y)


@jax.custom_jvp
def exp(x: ArrayLike) -> Array:
    """e^x; 0 if that is below the smallest normal number, infinity if it overflows."""
    x = jnp.asarray(x, jnp.float32)
    # x = n ln 2 + r, |r| <= ln 2 / 2
    inside = (x >= EXP_MIN) & (x <= EXP_MAX)
    # selected first, as above
    n = _nearest(jnp.where(inside, x, 0.0) * LOG2_E)
    k = jnp.float32(n)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = 1.38210552e-3 * r + 8.36867467e-3
    p = ((p * r + 4.16682623e-2) * r + 0.166665211) * r + 0.49999994
    y = 1.0 + (r + (r * r) * p)
    # times 2^n, by adding n to the exponent
    y = _from_bits(_to_bits(y) + (jnp.uint32(n) << jnp.uint32(23)))
    y = jnp.where(x < EXP_MIN, 0.0, y)
    return jnp.where(x > EXP_MAX, jnp.inf, y)


@jax.custom_jvp
def log(x: ArrayLike) -> Array:
    """Natural logarithm; -infinity at 0, NaN below."""
    x = jnp.asarray(x, jnp.float32)
    # x = 2^n (1 + f), 1 + f between sqrt(1/2), whose bits are 0x3F3504F3, and twice that
    bits = _to_bits(x)
    n = jnp.int32((bits + jnp.uint32(0x3F800000 - 0x3F3504F3)) >> jnp.uint32(23)) - 127
    f = _from_bits(bits - (jnp.uint32(n) << jnp.uint32(23))) - 1.0
    k = jnp.float32(n)
    p = (-7.63639957e-2 * f + 0.127621993) * f + -0.131596133
    p = ((p * f + 0.142015815) * f + -0.166234091) * f + 0.200012416
    p = (p * f + -0.250008196) * f + 0.333333313
    y = k * LN2_HIGH + (f + (k * LN2_LOW + (f * f) * (f * p + -0.5)))
    # infinity and NaN are their own logarithms
    y = jnp.where(x < jnp.inf, y, x)
    below = jnp.where(x > -SMALLEST_NORMAL, -jnp.inf, jnp.nan)
    return jnp.where(x < SMALLEST_NORMAL, below, y)


@jax.custom_jvp
def tanh(x: ArrayLike) -> Array:
    """Hyperbolic tangent."""
    x = jnp.asarray(x, jnp.float32)
    a = jnp.abs(x)
    z = x * x
    p = -5.69625339e-3 * z + 2.06308626e-2
    p = ((p * z + -5.37370592e-2) * z + 0.133314088) * z + -0.333332807
    small = x + x * (z * p)
    large = 1.0 - 2.0 / (exp(a + a) + 1.0)
    large = jnp.where(x < 0.0, -large, large)
    return jnp.where(a < TANH_SMALL, small, large)


@jax.custom_jvp
def atan2(y: ArrayLike, x: ArrayLike) -> Array:
    """Angle of the point (x, y) in radians, -pi < angle <= pi; 0 at the origin."""
    y, x = jnp.asarray(y, jnp.float32), jnp.asarray(x, jnp.float32)
    # the angle to the nearer axis
    ax, ay = jnp.abs(x), jnp.abs(y)
    steep, left = ay > ax, x < 0.0
    big = jnp.where(steep, ay, ax)
    a = jnp.where(steep, ax, ay) / jnp.where(big < SMALLEST_NORMAL, jnp.inf, big)
    z = a * a
    p = (2.91972281e-3 * z + -1.6364133e-2) * z + 4.32058573e-2
    p = ((p * z + -7.55172372e-2) * z + 0.106657855) * z + -0.142110035
    p = (p * z + 0.199937671) * z + -0.333331525
    angle = a + a * (z * p)
    # counted from that axis, towards it or away from it
    high = jnp.where(steep, HALF_PI_HIGH, jnp.where(left, PI_HIGH, 0.0))
    low = jnp.where(steep, HALF_PI_LOW, jnp.where(left, PI_LOW, 0.0))
    angle = high + (jnp.where(steep != left, -angle, angle) + low)
    return jnp.where(y < 0.0, -angle, angle)


def unit(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """The unit vector along (x, y), component by component.

    A vector shorter than 1e-15 gives (0, 0), and so does one whose squared length
    overflows; components up to 1e19 do not.
    """
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    zero = x * x + y * y < UNIT_MIN_SQUARED
    # far from the denormals, so that the rounding errors of the squares are not denormals
    scale = jnp.where((jnp.abs(x) < 1.0) & (jnp.abs(y) < 1.0), UNIT_SCALE, 1.0)
    x, y = x * scale, y * scale
    # the squares of the upper halves are exact; the errors of them and of their sum are added last
    upper_x, upper_y = _upper_half(x), _upper_half(y)
    square_x, square_y = upper_x * upper_x, upper_y * upper_y
    steep = square_y > square_x
    big, small = jnp.where(steep, square_y, square_x), jnp.where(steep, square_x, square_y)
    squared = big + small
    lacking = (small - (squared - big)) + ((x + upper_x) * (x - upper_x) + (y + upper_y) * (y - upper_y))
    squared = jnp.where(squared < jnp.inf, squared + lacking, squared)
    length = jnp.sqrt(jnp.where(zero, 1.0, squared))
    # XLA merges a division with a root, and with a division before or after it, which
    # changes bits. A selection on each side of the division keeps it alone.
    length = jnp.where(zero, 1.0, length)
    ux = jnp.where(zero, 0.0, x) / length
    uy = jnp.where(zero, 0.0, y) / length
    return jnp.where(zero, 0.0, ux), jnp.where(zero, 0.0, uy)


# the bit operations above have no derivatives: here they are
sin.defjvps(lambda dx, y, x: dx * cos(x))
cos.defjvps(lambda dx, y, x: dx * -sin(x))
exp.defjvps(lambda dx, y, x: dx * y)
log.defjvps(lambda dx, y, x: dx / x)
tanh.defjvps(lambda dx, t, x: dx * (1.0 - t * t))
atan2.defjvps(
    lambda dy, angle, y, x: dy * (x / (x * x + y * y)),
    lambda dx, angle, y, x: dx * (-y / (x * x + y * y)),
)
