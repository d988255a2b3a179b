"""Expected products of activations: E[phi(u) phi(v)] for a normal pair (u, v).

With variances a and b and covariance c of the pair,

    T(a, b, c) = E[phi(u) phi(v)],    (u, v) ~ N(0, [[a, c], [c, b]])

is the map of an infinitely wide layer on covariances, and dT/dc = E[phi'(u) phi'(v)] (Price's
theorem) that of its tangent kernel. Closed forms: relu (Cho and Saul 2009), erf (Williams 1997),
gelu (Tsuchida et al. 2021), sine and cosine (Pearce et al. 2020).

tanh and silu are mixtures of these. The logistic distribution is a scale mixture of normals, whose
scale is twice a Kolmogorov variable (Andrews and Mallows 1974), so that

    tanh(x) = sum_j w_j erf(x / (sqrt(2) s_j)),    silu(x) = sum_j w_j gelu(x t_j) / t_j,

with t_j = 1 / (2 s_j). Eight scales give both activations to 1e-6 everywhere. Any other smooth
function has a series of Hermite polynomials.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import ModelError

# below this, a variance is zero: its square root has no derivative
TINY = 1e-30
NODES = 200  # more overflow NumPy's Gauss-Hermite rule
TERMS = 60


class AbstractActivation(abc.ABC):
    """A function phi of the pre-activations of a layer."""

    @abc.abstractmethod
    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        """Return E[phi(u) phi(v)].

        Args:
            a: the variances of u.
            b: the variances of v, of a shape that broadcasts with that of `a`.
            c: the covariances.
        """

    def slope_product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        """Return E[phi'(u) phi'(v)], the derivative of `product` in the covariances."""
        a, b, c = jnp.broadcast_arrays(a, b, c)
        ones = jnp.ones_like(c)
        return jax.jvp(lambda covariances: self.product(a, b, covariances), (c,), (ones,))[1]

    def unit_scale(self) -> float:
        """Return the weight scale that keeps a pre-activation of variance 1 at variance 1."""
        one = np.ones(())
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            return float(self.product(*map(jnp.asarray, (one, one, one)))) ** -0.5


@jax.custom_jvp
def _half_angle(r: jax.Array) -> jax.Array:
    """Return (pi - arccos r) / (2 pi), with derivative 0 where it has none, at r = -1 and 1."""
    return (jnp.pi - jnp.arccos(jnp.clip(r, -1.0, 1.0))) / (2 * jnp.pi)


@_half_angle.defjvp
def _half_angle_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (r,), (dr,) = primals, tangents
    rest = 1 - r**2
    inside = rest > 1e-14
    slope = jnp.where(inside, 1 / jnp.sqrt(jnp.where(inside, rest, 1.0)), 0.0)
    return _half_angle(r), slope * dr / (2 * jnp.pi)


@jax.custom_jvp
def _relu_product(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Return sqrt(ab) (sin t + (pi - t) cos t) / (2 pi), t the angle between u and v."""
    scale, r = _correlation(a, b, c)
    return scale * jnp.sqrt(jnp.maximum(1 - r**2, 0.0)) / (2 * jnp.pi) + c * _half_angle(r)


@_relu_product.defjvp
def _relu_product_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    # by homogeneity a dT/da = b dT/db = (T - c dT/dc) / 2, which holds on the diagonal too
    a, b, c = primals
    value, slope = _relu_product(a, b, c), _half_angle(_correlation(a, b, c)[1])
    rest = (value - c * slope) / 2
    da, db, dc = tangents
    change = rest * (da / jnp.maximum(a, TINY) + db / jnp.maximum(b, TINY)) + slope * dc
    return value, change


def _correlation(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the product of the standard deviations, and the correlation."""
    scale = jnp.sqrt(jnp.maximum(a * b, TINY))
    r = jnp.clip(c / scale, -1.0, 1.0)
    # what rounding leaves of equal and opposite rows, as angles are of the size of its root
    nearly = 1 - jnp.abs(r) < 8 * jnp.finfo(r.dtype).eps
    return scale, jnp.where(nearly, jnp.sign(r), r)


@dataclasses.dataclass(frozen=True)
class LeakyReLU(AbstractActivation):
    """max(x, slope x), with slope 0 for the relu."""

    slope: float = 0.0

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        a, b, c = jnp.broadcast_arrays(a, b, c)
        return (1 - self.slope) ** 2 * _relu_product(a, b, c) + self.slope * c

    def slope_product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        r = _correlation(a, b, c)[1]
        return (1 - self.slope) ** 2 * _half_angle(r) + self.slope


@dataclasses.dataclass(frozen=True)
class Erf(AbstractActivation):
    """erf(x)."""

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return 2 / jnp.pi * jnp.arcsin(2 * c / jnp.sqrt((1 + 2 * a) * (1 + 2 * b)))

    def slope_product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return 4 / jnp.pi / jnp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c**2)


@dataclasses.dataclass(frozen=True)
class Gelu(AbstractActivation):
    """x Phi(x), with the normal distribution function Phi."""

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        both = (1 + a) * (1 + b)
        angle = jnp.arcsin(c / jnp.sqrt(both))
        inner = a * b + c**2 - a * c**2 / (1 + a) - b * c**2 / (1 + b)
        return c * (0.25 + angle / (2 * jnp.pi)) + inner / (2 * jnp.pi * jnp.sqrt(both - c**2))


@dataclasses.dataclass(frozen=True)
class Sine(AbstractActivation):
    """sin(x)."""

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        middle = (a + b) / 2
        return (jnp.exp(c - middle) - jnp.exp(-c - middle)) / 2


@dataclasses.dataclass(frozen=True)
class Cosine(AbstractActivation):
    """cos(x)."""

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        middle = (a + b) / 2
        return (jnp.exp(c - middle) + jnp.exp(-c - middle)) / 2


@functools.cache
def _logistic_scales() -> tuple[np.ndarray, np.ndarray]:
    """Return scales s_j and weights w_j with 1 / (1 + exp(-x)) = sum_j w_j Phi(x / (2 s_j)).

    A trapezoidal rule in log s, which is accurate as the Kolmogorov density falls off faster than
    an exponential on both sides.
    """
    s = np.exp(np.linspace(-1.1, 0.8, 8))
    k = np.arange(1, 60)[:, None]
    density = 8 * s * ((-1.0) ** (k - 1) * k**2 * np.exp(-2 * k**2 * s**2)).sum(0)
    return s, density * s / (density * s).sum()


@dataclasses.dataclass(frozen=True)
class Mixture(AbstractActivation):
    """sum_j w_j phi(t_j x), with numbers t_j and w_j.

    Attributes:
        part: the activation phi.
        factors: the numbers t_j.
        weights: the numbers w_j.
    """

    part: AbstractActivation
    factors: tuple[float, ...]
    weights: tuple[float, ...]

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        first, second = (x.ravel() for x in np.meshgrid(self.factors, self.factors))
        weights = np.outer(self.weights, self.weights).ravel()

        # gradients run each part again, rather than keep all of them
        @jax.checkpoint
        def add(total: jax.Array, pair: tuple) -> tuple[jax.Array, None]:
            s, t, w = pair
            return total + w * self.part.product(s**2 * a, t**2 * b, s * t * c), None

        start = jnp.zeros(jnp.broadcast_shapes(a.shape, b.shape, c.shape), c.dtype)
        pairs = tuple(jnp.asarray(x, c.dtype) for x in (first, second, weights))
        return jax.lax.scan(add, start, pairs)[0]


@functools.cache
def tanh() -> Mixture:
    """Return tanh as a mixture of erf."""
    s, w = _logistic_scales()
    return Mixture(Erf(), tuple((2**-0.5 / s).tolist()), tuple(w.tolist()))


@functools.cache
def silu() -> Mixture:
    """Return x / (1 + exp(-x)) as a mixture of gelu."""
    s, w = _logistic_scales()
    return Mixture(Gelu(), tuple((0.5 / s).tolist()), tuple((2 * s * w).tolist()))


@dataclasses.dataclass(frozen=True)
class Series(AbstractActivation):
    """A smooth function, by its Hermite polynomials (Mehler 1866):

        T = sum_k h_k(a) h_k(b) r^k,    h_k(a) = E[phi(sqrt(a) z) He_k(z)] / sqrt(k!),

    with the correlation r and 60 terms. The sum of those left out is known at r = 1 and at r = -1,
    and stands in two more terms, so variances are right. Positive definite by construction.
    Covariances are right to 3e-5 of the variance for standard deviations up to 3, and to 3 % for
    any; for tanh, say.

    Attributes:
        function: phi, applied to each entry of an array.
    """

    function: Callable[[jax.Array], jax.Array]

    def product(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        of_a, of_b = self.coefficients(a), self.coefficients(b)
        r = _correlation(a, b, c)[1]

        @jax.checkpoint
        def horner(total: jax.Array, pair: tuple) -> tuple[jax.Array, None]:
            return total * r + pair[0] * pair[1], None

        start = jnp.zeros(jnp.broadcast_shapes(a.shape, b.shape, c.shape), c.dtype)
        return jax.lax.scan(horner, start, (of_a, of_b), reverse=True)[0]

    def coefficients(self, a: jax.Array) -> jax.Array:
        """Return h_0, ..., h_K, and what is left of the even and the odd terms, on a first axis."""
        z, weights = np.polynomial.hermite_e.hermegauss(NODES)
        weights = weights / weights.sum()
        rule = jnp.asarray((_normalised_hermite(z, TERMS) * weights).T, a.dtype)
        # nodes on the first axis, so that those of the rows stay as they are
        nodes = jnp.asarray(z, a.dtype).reshape((-1,) + (1,) * a.ndim)
        u = jnp.sqrt(jnp.maximum(a, TINY))[None] * nodes
        values, mirrored = self.function(u), self.function(-u)
        known = jnp.tensordot(rule, values, (0, 0))
        rests = [
            jnp.tensordot(rule[:, 0], ((values + sign * mirrored) / 2) ** 2, (0, 0))
            - jnp.sum(known[start::2] ** 2, 0)
            for start, sign in ((0, 1), (1, -1))
        ]
        # TERMS is even: the next two powers are odd and even
        even, odd = (jnp.sqrt(jnp.maximum(rest, TINY)) for rest in rests)
        return jnp.concatenate([known, odd[None], even[None]])


def _normalised_hermite(z: np.ndarray, largest: int) -> np.ndarray:
    """Return He_k(z) / sqrt(k!) for k = 0, ..., largest, shape (largest + 1, nodes)."""
    rows = [np.ones_like(z), z]
    for k in range(2, largest + 1):
        rows.append((z * rows[-1] - np.sqrt(k - 1) * rows[-2]) / np.sqrt(k))
    return np.stack(rows)


NAMED: dict[str, Callable[[], AbstractActivation]] = {
    "relu": LeakyReLU,
    "leaky_relu": lambda: LeakyReLU(0.01),
    "erf": Erf,
    "gelu": Gelu,
    "sine": Sine,
    "cosine": Cosine,
    "tanh": tanh,
    "silu": silu,
}


def find_activation(activation: object) -> AbstractActivation:
    """Return the activation of a name, or of a function of arrays.

    Raises:
        ModelError: for a name that is not known, or what is no function of arrays.

    Example:
        >>> find_activation("relu")
        LeakyReLU(slope=0.0)
    """
    if isinstance(activation, AbstractActivation):
        return activation
    if isinstance(activation, str):
        if activation not in NAMED:
            raise ModelError(
                f"WideNetwork(activation={activation!r}): expected one of "
                f"{', '.join(map(repr, NAMED))}, or a function of arrays such as jax.nn.softplus."
            )
        return NAMED[activation]()
    if not callable(activation):
        raise ModelError(
            f"WideNetwork(activation={activation!r}): expected a name such as 'erf', or a function "
            "of arrays such as jax.nn.softplus."
        )
    return _checked_series(activation)


def _checked_series(function: Callable) -> Series:
    """Return the series of a function, after a look at its values.

    Raises:
        ModelError: where they are not one finite number for each entry.
    """
    points = np.linspace(-3.0, 3.0, 7)
    with jax.ensure_compile_time_eval():
        values = np.asarray(function(jnp.asarray(points)))
    if values.shape != points.shape or not np.isfinite(values).all():
        raise ModelError(
            f"WideNetwork(activation={function!r}): expected a finite number for each entry, got "
            f"{values} at {points}."
        )
    return Series(function)
