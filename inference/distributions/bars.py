"""The distribution that a prior-data fitted network gives: bars with half-normal tails.

With inner edges e_1 < ... < e_{K-1} and probabilities p = softmax(logits) of K bars,

    p(y) = p_1 h((e_1 - y) / s_l) / s_l               y < e_1,            h(t) = 2 phi(t), t >= 0
           p_k / (e_k - e_{k-1})                      e_{k-1} <= y < e_k
           p_K h((y - e_{K-1}) / s_r) / s_r           y >= e_{K-1}

where h is the half-normal density. Edges are quantiles of targets of the prior. The scale s of a
tail is the root mean square of the distances by which targets exceed the last edge, so the second
moment of the tail is the prior's; a scale taken from the largest target seen would not have this
property. Density, cdf, quantiles and moments all belong to this one distribution (Mueller et al.
2022, arXiv:2112.10510, call it the Riemann distribution).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jax.typing import ArrayLike
from numpyro.distributions import CategoricalLogits, Distribution, constraints

MEAN_OF_HALF_NORMAL = float(np.sqrt(2 / np.pi))

# The integral of Phi(-t)^2 over t >= 0.
SQUARED_TAIL = float((np.sqrt(0.5) - 0.5) / np.sqrt(np.pi))


class Bars(Distribution):
    """Bars with half-normal tails; the module's docstring gives the density.

    Args:
        logits: the logits of the bars' probabilities, shape (..., K).
        edges: the inner edges, shape (..., K - 1), increasing.
        scales: the scales of the left and the right tail, shape (..., 2).

    Example:
        >>> bars = Bars(jnp.zeros(3), jnp.array([0.0, 1.0]), jnp.ones(2))
        >>> half = jnp.array(0.5)
        >>> [round(float(v), 4) for v in (bars.cdf(half), bars.icdf(half), bars.mean)]
        [0.5, 0.5, 0.5]
    """

    arg_constraints: ClassVar = {
        "logits": constraints.real_vector,
        "edges": constraints.ordered_vector,
        "scales": constraints.independent(constraints.positive, 1),
    }
    support: Any = constraints.real
    reparametrized_params: ClassVar = []

    def __init__(
        self,
        logits: jax.Array,
        edges: ArrayLike,
        scales: ArrayLike,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.logits = logits
        self.edges, self.scales = _match_axes(edges, logits), _match_axes(scales, logits)
        batch_shape = jnp.broadcast_shapes(
            jnp.shape(logits)[:-1], jnp.shape(edges)[:-1], jnp.shape(scales)[:-1]
        )
        super().__init__(batch_shape, (), validate_args=validate_args)

    @property
    def log_probs(self) -> jax.Array:
        """Log p of each bar, in single precision or better."""
        return jax.nn.log_softmax(
            self.logits.astype(jnp.promote_types(self.logits.dtype, jnp.float32)), -1
        )

    @property
    def cdf_at_edges(self) -> jax.Array:
        """P(Y < e_k) at every inner edge, shape (..., K - 1)."""
        return jnp.cumsum(jnp.exp(self.log_probs), -1)[..., :-1]

    @property
    def cdf_at_left_edges(self) -> jax.Array:
        """P(Y < left edge) of every bar, shape (..., K); zero for the left tail."""
        below = self.cdf_at_edges
        return jnp.concatenate([jnp.zeros((*below.shape[:-1], 1)), below], -1)

    def locate(self, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Return the number of y's bar, its left and right edge, and the scale of the nearer tail.

        Args:
            y: values whose last axes are the batch's.
        """
        edges = jnp.broadcast_to(self.edges, (*y.shape, self.edges.shape[-1]))
        bar = jnp.sum(y[..., None] >= edges, -1)
        return bar, *self.edges_of(bar)

    def edges_of(self, bar: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return left and right edges of bars, and the scale of the nearer tail.

        A tail has its one inner edge twice.
        """
        last = self.edges.shape[-1] - 1
        left = _take_last_axis(self.edges, jnp.clip(bar - 1, 0, last))
        right = _take_last_axis(self.edges, jnp.clip(bar, 0, last))
        return left, right, _take_last_axis(self.scales, jnp.where(bar == 0, 0, 1))

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> jax.Array:
        """Return the log density."""
        y = jnp.broadcast_to(value, jnp.broadcast_shapes(jnp.shape(value), self.batch_shape))
        bar, left, right, scale = self.locate(y)
        inside = (bar > 0) & (bar < self.logits.shape[-1] - 1)
        width = jnp.where(inside, right - left, 1.0)
        tail = jnp.log(2.0) + norm.logpdf((y - left) / scale) - jnp.log(scale)
        return _take_last_axis(self.log_probs, bar) + jnp.where(inside, -jnp.log(width), tail)

    def cdf(self, value: ArrayLike) -> jax.Array:
        """Return P(Y <= value)."""
        y = jnp.broadcast_to(value, jnp.broadcast_shapes(jnp.shape(value), self.batch_shape))
        bar, left, right, scale = self.locate(y)
        before = _take_last_axis(self.cdf_at_left_edges, bar)
        mass = jnp.exp(_take_last_axis(self.log_probs, bar))
        last = self.logits.shape[-1] - 1
        share = jnp.clip((y - left) / jnp.where(right > left, right - left, 1.0), 0, 1)
        half = 2 * norm.cdf(-jnp.abs(y - left) / scale)
        return before + mass * jnp.where(bar == 0, half, jnp.where(bar == last, 1 - half, share))

    def icdf(self, q: ArrayLike) -> jax.Array:
        """Return quantiles, also those that lie in the tails."""
        q = jnp.broadcast_to(q, jnp.broadcast_shapes(jnp.shape(q), self.batch_shape))
        below = jnp.broadcast_to(self.cdf_at_edges, (*q.shape, self.edges.shape[-1]))
        bar = jnp.sum(q[..., None] >= below, -1)
        left, right, scale = self.edges_of(bar)
        mass = jnp.exp(_take_last_axis(self.log_probs, bar))
        before = _take_last_axis(self.cdf_at_left_edges, bar)
        share = jnp.clip((q - before) / jnp.maximum(mass, jnp.finfo(q.dtype).tiny), 0, 1)
        last = self.logits.shape[-1] - 1
        left_tail, right_tail = norm.ppf(share / 2), -norm.ppf((1 - share) / 2)
        return left + jnp.where(
            bar == 0,
            scale * left_tail,
            jnp.where(bar == last, scale * right_tail, share * (right - left)),
        )

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values by inverting the cdf."""
        shape = (*sample_shape, *self.batch_shape)
        dtype = self.log_probs.dtype
        # The smallest positive number bounds the levels, as the quantile of 0 is infinite.
        return self.icdf(jax.random.uniform(key, shape, dtype, minval=jnp.finfo(dtype).tiny))

    def bar_moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance within each bar, shape (..., K)."""
        first, last = self.edges[..., :1], self.edges[..., -1:]
        left, right = self.scales[..., :1], self.scales[..., 1:]
        low, high = self.edges[..., :-1], self.edges[..., 1:]
        tails = (1 - MEAN_OF_HALF_NORMAL**2) * self.scales**2
        means = jnp.concatenate(
            [
                first - MEAN_OF_HALF_NORMAL * left,
                (low + high) / 2,
                last + MEAN_OF_HALF_NORMAL * right,
            ],
            -1,
        )
        return means, jnp.concatenate([tails[..., :1], (high - low) ** 2 / 12, tails[..., 1:]], -1)

    def crps(self, value: ArrayLike) -> jax.Array:
        """Return the continuous ranked probability score, the integral of (F(t) - [t >= value])^2.

        It has a closed form: the integrand is a parabola over each bar, and the tails give
        integrals of Phi^2.
        """
        y = jnp.broadcast_to(value, self.batch_shape)
        mass = jnp.exp(self.log_probs)
        edges = jnp.broadcast_to(self.edges, (*y.shape, self.edges.shape[-1]))
        low, high, F = edges[..., :-1], edges[..., 1:], self.cdf_at_left_edges[..., 1:-1]
        slope, cut = mass[..., 1:-1] / (high - low), jnp.clip(y[..., None], low, high)
        inner = _integrate_squared_line(F, slope, cut - low) + _integrate_squared_line(
            1 - F - slope * (cut - low), -slope, high - cut
        )
        left, right = self.scales[..., 0], self.scales[..., 1]
        below_first = jnp.maximum(edges[..., 0] - y, 0)
        above_last = jnp.maximum(y - edges[..., -1], 0)
        return (
            inner.sum(-1)
            + _tail_crps(mass[..., 0], below_first, left)
            + _tail_crps(mass[..., -1], above_last, right)
        )

    @property
    def mean(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The mean, shape of the batch."""
        return (jnp.exp(self.log_probs) * self.bar_moments()[0]).sum(-1)

    @property
    def variance(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The variance, shape of the batch."""
        means, within = self.bar_moments()
        probs = jnp.exp(self.log_probs)
        mean = (probs * means).sum(-1, keepdims=True)
        return (probs * ((means - mean) ** 2 + within)).sum(-1)


class Grid(NamedTuple):
    """The places of bars.

    Attributes:
        edges: the inner edges, shape (..., K - 1).
        scales: the scales of the left and the right tail, shape (..., 2).
    """

    edges: Any
    scales: Any


class Grids(NamedTuple):
    """The grids of everything that a network predicts.

    Attributes:
        target: the grid of y; None for classes.
        latents: the grids of latent sites, with a leading axis over sites; None without any.
    """

    target: Grid | None
    latents: Grid | None = None


def _integrate_squared_line(start: jax.Array, slope: jax.Array, length: jax.Array) -> jax.Array:
    """Return the integral of (start + slope t)^2 over 0 <= t <= length."""
    return length * (start**2 + start * slope * length + (slope * length) ** 2 / 3)


def _tail_crps(mass: jax.Array, beyond: jax.Array, scale: jax.Array) -> jax.Array:
    """Return a tail's part of the CRPS of a target that lies `beyond` the inner edge.

    It integrates (1 - G)^2 up to the target and G^2 from there on, where G(t) =
    2 mass Phi(-t / scale) is the probability beyond t. The integral of Phi(-t) over 0 <= t <= u is
    u Phi(-u) - phi(u) + phi(0).
    """
    u = beyond / scale
    once = u * norm.cdf(-u) - norm.pdf(u) + norm.pdf(0.0)
    return scale * (u - 4 * mass * once + 4 * mass**2 * SQUARED_TAIL)


def distribution_from_logits(logits: jax.Array, grid: Grid | None) -> Bars | CategoricalLogits:
    """Return the distribution that a network's logits give: bars, or classes without a grid."""
    return CategoricalLogits(logits) if grid is None else Bars(logits, *grid)


def _match_axes(values: ArrayLike, logits: ArrayLike) -> jax.Array:
    """Return values with as many axes as logits."""
    return jnp.reshape(values, (1,) * (jnp.ndim(logits) - jnp.ndim(values)) + jnp.shape(values))


def _take_last_axis(values: jax.Array, index: jax.Array) -> jax.Array:
    """Return values[..., index], one value for each entry of the index.

    The last axes of the index are those of the values without their last one. Leading axes of the
    index, those of samples, are gathered without copies of the values.
    """
    batch = index.shape[index.ndim - values.ndim + 1 :]
    values = jnp.broadcast_to(values, (*batch, values.shape[-1]))
    by_entry = jnp.moveaxis(index.reshape(-1, *batch), 0, -1)
    return jnp.moveaxis(jnp.take_along_axis(values, by_entry, -1), -1, 0).reshape(index.shape)


def fit_grid(y: np.ndarray, num_bars: int) -> Grid:
    """Return the grid whose bars hold equal numbers of these targets.

    Raises:
        ValueError: if there are too few different targets.
    """
    y = np.sort(np.asarray(y, np.float64).ravel())
    # The edges are rounded to single precision, in which they will be used.
    edges = np.quantile(y, np.arange(1, num_bars) / num_bars).astype(np.float32).astype(np.float64)
    if np.any(np.diff(edges) <= 0):
        raise ValueError(
            f"The prior's targets have ties: {len(np.unique(edges))} different ones among "
            f"{len(edges)} quantiles. Expected a distribution of y with a density; for counts or "
            "classes use a classifying network."
        )
    beyond = [edges[0] - y[y < edges[0]], y[y >= edges[-1]] - edges[-1]]
    return Grid(edges, np.array([np.sqrt(np.mean(part**2)) for part in beyond]))
