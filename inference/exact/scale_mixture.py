"""Normal distributions whose scale is not known: y | s ~ N(0, s S), s ~ p(s).

For s ~ InverseGamma(a, b) the scale is integrated out in closed form (Shah, Wilson and Ghahramani
2014, arXiv:1402.4306): with q = y' S^-1 y of n rows

    p(y) = t_2a(0, (b / a) S)
         = G(a + n/2) / G(a) (2 pi b)^(-n/2) |S|^(-1/2) (1 + q / 2b)^-(a + n/2)
    s | y ~ InverseGamma(a + n/2, b + q / 2),

so that given y a new row with mean m and variance v for s = 1 is t with 2a + n degrees of freedom
around m, of scale^2 v (2b + q) / (2a + n). For any other p(s) one-dimensional quadrature over log s
takes its place, with nodes around the most probable scale, denser there than far away.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln, logsumexp
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from inference.core.result import Conditional
from inference.core.typing import Key

# nodes of the quadrature, and how far they reach: sinh(REACH) times the width in log s
NODES, REACH = 300, 7.0
# places between what the rows and the prior say, and steps of Newton from the best of them
BETWEEN, CLIMBS = 50, 30
# the least q, that of targets that are all zero
TINY = 1e-200


class AbstractScale(abc.ABC):
    """What is known of the scale s of y | s ~ N(0, s S)."""

    @abc.abstractmethod
    def log_density(self, quadratic: jax.Array, log_det: jax.Array, rows: int) -> jax.Array:
        """Return log p(y), given q = y' S^-1 y and log |S|."""

    @abc.abstractmethod
    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw s from its prior."""

    @abc.abstractmethod
    def row(
        self,
        mean: jax.Array,
        variance: jax.Array,
        noise: ArrayLike,
        quadratic: jax.Array,
        rows: int,
    ) -> Conditional:
        """Return the distribution of new targets, each by itself.

        Args:
            mean: their means.
            variance: the variances of f for s = 1.
            noise: the variance of the noise for s = 1.
            quadratic: q of the rows that are known.
            rows: their number.
        """

    @abc.abstractmethod
    def joint(
        self, mean: jax.Array, covariance: jax.Array, quadratic: jax.Array, rows: int
    ) -> dist.Distribution:
        """Return the distribution of new targets together, with the covariance for s = 1."""


@dataclasses.dataclass(frozen=True)
class InverseGammaScale(AbstractScale):
    """s ~ InverseGamma(a, b).

    Attributes:
        a: the shape.
        b: the rate.
    """

    a: float
    b: float

    def log_density(self, quadratic: jax.Array, log_det: jax.Array, rows: int) -> jax.Array:
        shape = self.a + rows / 2
        constant = gammaln(shape) - gammaln(self.a) - rows / 2 * jnp.log(2 * jnp.pi * self.b)
        return constant - log_det / 2 - shape * jnp.log1p(quadratic / (2 * self.b))

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return dist.InverseGamma(self.a, self.b).sample(key, shape)

    def _posterior(self, quadratic: jax.Array, rows: int) -> tuple[float, jax.Array]:
        """Return the degrees of freedom, and the square of the scale for a variance of 1."""
        freedom = 2 * self.a + rows
        return freedom, (2 * self.b + quadratic) / freedom

    def row(
        self,
        mean: jax.Array,
        variance: jax.Array,
        noise: ArrayLike,
        quadratic: jax.Array,
        rows: int,
    ) -> Conditional:
        freedom, square = self._posterior(quadratic, rows)
        target = dist.StudentT(freedom, mean, jnp.sqrt(square * (variance + noise)))
        # of a t with no more than two degrees of freedom the variance is infinite
        ratio = jnp.where(freedom > 2, freedom / jnp.maximum(freedom - 2, TINY), jnp.inf)
        return Conditional(target, square * variance * ratio)

    def joint(
        self, mean: jax.Array, covariance: jax.Array, quadratic: jax.Array, rows: int
    ) -> dist.Distribution:
        freedom, square = self._posterior(quadratic, rows)
        root = jnp.linalg.cholesky(square * covariance)
        return dist.MultivariateStudentT(freedom, mean, root)


@dataclasses.dataclass(frozen=True)
class QuadratureScale(AbstractScale):
    """s with any prior on positive numbers, by quadrature.

    Attributes:
        prior: the prior.
    """

    prior: dist.Distribution

    def _nodes(
        self, quadratic: jax.Array, log_det: jax.Array | float, rows: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return scales s, and the logarithms of p(y, s) times their weights."""
        t = jnp.linspace(-REACH, REACH, NODES)
        centre, width = self._peak(quadratic, rows)
        log_s = centre + width * jnp.sinh(t)
        # beyond these no number has an exponential; the density is nil there
        inside = jnp.abs(log_s) < 300
        s = jnp.exp(jnp.where(inside, log_s, 0.0))
        step = jnp.log(width * jnp.cosh(t) * (t[1] - t[0]))
        normal = -(rows * jnp.log(2 * jnp.pi * s) + log_det + quadratic / s) / 2
        weights = normal + self.prior.log_prob(s) + jnp.log(s) + step
        return s, jnp.where(inside, weights, -jnp.inf)

    def _peak(self, quadratic: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
        """Return where p(y, log s) is highest, and how wide it is there.

        The rows speak for q / n, and the prior for its median, far from it where they disagree.
        """

        def density(log_s: jax.Array) -> jax.Array:
            prior = jnp.asarray(self.prior.log_prob(jnp.exp(log_s))) + log_s
            return prior - (rows * log_s + quadratic * jnp.exp(-log_s)) / 2

        with jax.ensure_compile_time_eval():
            middle = jnp.log(jnp.median(self.draw(jax.random.key(0), (1001,))))
        slope, curvature = jax.grad(density), jax.grad(jax.grad(density))
        default = jnp.sqrt(2.0 / (rows + 1))
        of_rows = jnp.log(jnp.maximum(quadratic, TINY) / rows) if rows else middle
        between = of_rows + (middle - of_rows) * jnp.linspace(0.0, 1.0, BETWEEN)
        heights = jax.vmap(density)(between)
        start = between[jnp.argmax(jnp.where(jnp.isfinite(heights), heights, -jnp.inf))]

        def climb(at: jax.Array, _: None) -> tuple[jax.Array, None]:
            bend = curvature(at)
            step = jnp.where(bend < 0, -slope(at) / bend, jnp.sign(slope(at)) * default)
            there = at + jnp.clip(step, -1.0, 1.0)
            return jnp.where(density(there) > density(at), there, at), None

        peak, _ = jax.lax.scan(climb, start, None, length=CLIMBS)
        bend = curvature(peak)
        width = jnp.where(bend < 0, 1 / jnp.sqrt(jnp.maximum(-bend, TINY)), default)
        # the nodes are fixed numbers to a derivative, which the sum over them has anyway
        return jax.lax.stop_gradient((peak, jnp.clip(width, 1e-4, default)))

    def log_density(self, quadratic: jax.Array, log_det: jax.Array, rows: int) -> jax.Array:
        return logsumexp(self._nodes(quadratic, log_det, rows)[1])

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(self.prior.sample(key, shape))

    def _posterior(self, quadratic: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
        """Return scales, and the logarithms of their probabilities."""
        s, weights = self._nodes(quadratic, 0.0, rows)
        return s, weights - logsumexp(weights)

    def row(
        self,
        mean: jax.Array,
        variance: jax.Array,
        noise: ArrayLike,
        quadratic: jax.Array,
        rows: int,
    ) -> Conditional:
        s, logits = self._posterior(quadratic, rows)
        scales = jnp.sqrt(s[None, :] * (variance + noise)[:, None])
        parts = dist.Normal(mean[:, None], scales)
        mixing = dist.Categorical(logits=jnp.broadcast_to(logits, scales.shape))
        spread = variance * jnp.sum(jnp.exp(logits) * s)
        return Conditional(dist.MixtureSameFamily(mixing, parts), spread)

    def joint(
        self, mean: jax.Array, covariance: jax.Array, quadratic: jax.Array, rows: int
    ) -> dist.Distribution:
        s, logits = self._posterior(quadratic, rows)
        return NormalOfScales(mean, jnp.linalg.cholesky(covariance), s, logits)


@dataclasses.dataclass(frozen=True)
class FixedScale(AbstractScale):
    """s = 1: the normal distribution itself."""

    def log_density(self, quadratic: jax.Array, log_det: jax.Array, rows: int) -> jax.Array:
        return -(quadratic + log_det + rows * jnp.log(2 * jnp.pi)) / 2

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.ones(shape)

    def row(
        self,
        mean: jax.Array,
        variance: jax.Array,
        noise: ArrayLike,
        quadratic: jax.Array,
        rows: int,
    ) -> Conditional:
        return Conditional(dist.Normal(mean, jnp.sqrt(variance + noise)), jnp.asarray(variance))

    def joint(
        self, mean: jax.Array, covariance: jax.Array, quadratic: jax.Array, rows: int
    ) -> dist.Distribution:
        return dist.MultivariateNormal(mean, covariance)


class ScaledNormal(dist.Distribution):
    """y ~ N(0, s S) with s integrated out.

    Attributes:
        root: the Cholesky factor of S.
        scale: what is known of s.
    """

    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("root",)
    pytree_aux_fields = ("scale",)

    def __init__(self, root: jax.Array, scale: AbstractScale) -> None:
        self.root, self.scale = root, scale
        super().__init__((), root.shape[-1:], validate_args=False)

    def sample(self, key: Key | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        return _draw(key, sample_shape, self.root, self.scale.draw)

    def log_prob(self, value: jax.Array) -> jax.Array:
        whitened = solve_triangular(self.root, value, lower=True)
        log_det = 2 * jnp.log(jnp.diagonal(self.root)).sum()
        return self.scale.log_density(whitened @ whitened, log_det, value.shape[-1])

    def left_out(self, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return log p(y_i | y_-i) and P(Y_i <= y_i | y_-i) of each row i.

        With P = S^-1, s = 1 makes y_i | y_-i normal around y_i - [P y]_i / P_ii with the variance
        1 / P_ii (Rasmussen and Williams 2006, equation 5.12), and the q of y_-i is
        y' P y - [P y]_i^2 / P_ii.
        """
        inverse_root = solve_triangular(self.root, jnp.eye(len(value)), lower=True)
        whitened, precision = inverse_root @ value, jnp.sum(inverse_root**2, axis=0)
        g = whitened @ inverse_root
        others = jnp.maximum(whitened @ whitened - g**2 / precision, 0.0)

        def judge(y: jax.Array, mean: jax.Array, variance: jax.Array, q: jax.Array) -> tuple:
            given = self.scale.row(mean[None], variance[None], 0.0, q, len(value) - 1).distribution
            return jnp.asarray(given.log_prob(y[None]))[0], jnp.asarray(given.cdf(y[None]))[0]

        return jax.vmap(judge)(value, value - g / precision, 1 / precision, others)


class NormalOfScales(dist.Distribution):
    """y ~ N(mean, s S) with s one of some numbers.

    Attributes:
        mean: the mean.
        root: the Cholesky factor of S.
        s: the numbers.
        logits: the logarithms of their probabilities.
    """

    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("mean_", "root", "s", "logits")

    def __init__(self, mean: jax.Array, root: jax.Array, s: jax.Array, logits: jax.Array) -> None:
        self.mean_, self.root, self.s, self.logits = mean, root, s, logits
        super().__init__((), root.shape[-1:], validate_args=False)

    def sample(self, key: Key | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        def choose(key: Key, shape: tuple[int, ...]) -> jax.Array:
            return self.s[jax.random.categorical(key, self.logits, shape=shape)]

        around = _draw(key, sample_shape, self.root, choose)
        return around + jnp.broadcast_to(self.mean_, around.shape)

    def log_prob(self, value: jax.Array) -> jax.Array:
        whitened = solve_triangular(self.root, value - self.mean_, lower=True)
        log_det = 2 * jnp.log(jnp.diagonal(self.root)).sum()
        rows = value.shape[-1]
        each = rows * jnp.log(2 * jnp.pi * self.s) + log_det + whitened @ whitened / self.s
        return logsumexp(self.logits - each / 2)


def _draw(
    key: Key | None, shape: tuple[int, ...], root: jax.Array, draw_scale: Callable
) -> jax.Array:
    """Draw s, and then y given s, around zero."""
    first, second = jax.random.split(key)  # pyright: ignore[reportArgumentType]
    z = jax.random.normal(first, (*shape, root.shape[-1])) @ root.T
    return jnp.sqrt(draw_scale(second, shape))[..., None] * z
