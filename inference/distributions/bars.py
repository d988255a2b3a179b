"""The distribution that a prior-data fitted network gives for a number: bars with half-normal tails.

With inner edges e_1 < ... < e_{K-1} and probabilities p = softmax(logits) of K bars,

    p(y) = p_1 h((e_1 - y) / s_l) / s_l               y < e_1,            h(t) = 2 phi(t), t >= 0: half-normal
           p_k / (e_k - e_{k-1})                      e_{k-1} <= y < e_k
           p_K h((y - e_{K-1}) / s_r) / s_r           y >= e_{K-1}

Edges are quantiles of targets of the prior, and s is the root mean square of what they have beyond the last edge: so the
tails' second moment is the prior's, which a scale taken from the largest target seen is not. Density, cdf, quantiles and
moments are all of this one distribution (Mueller et al. 2022, arXiv:2112.10510, call it Riemann distribution).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from numpyro.distributions import Categorical, Distribution, constraints

MEAN_OF_HALF_NORMAL = float(np.sqrt(2 / np.pi))
SQUARED_TAIL = float((np.sqrt(0.5) - 0.5) / np.sqrt(np.pi))  # int_0^inf Phi(-t)^2 dt


class Bars(Distribution):
    """See the module's docstring.

    Args:
        logits: of the bars' probabilities, shape (..., K).
        edges: inner edges, shape (..., K - 1), increasing.
        scales: of the left and the right tail, shape (..., 2).

    Example:
        >>> law = Bars(jnp.zeros(3), jnp.array([0.0, 1.0]), jnp.ones(2))
        >>> [round(float(v), 4) for v in (law.cdf(jnp.array(0.5)), law.icdf(jnp.array(0.5)), law.mean)]
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
        self, logits: Any, edges: Any, scales: Any, *, validate_args: bool | None = None
    ) -> None:
        self.logits, self.edges, self.scales = logits, like(edges, logits), like(scales, logits)
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
    def below(self) -> jax.Array:
        """P(Y < e_k) at every inner edge, shape (..., K - 1)."""
        return jnp.cumsum(jnp.exp(self.log_probs), -1)[..., :-1]

    def parts(self, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """The number of y's bar, and its left and right edge (both the inner one for a tail); y has the batch's last axes."""
        edges = jnp.broadcast_to(self.edges, (*y.shape, self.edges.shape[-1]))
        bar = jnp.sum(y[..., None] >= edges, -1)
        return bar, *self.edges_of(bar)

    def edges_of(self, bar: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Left and right edge of bars, the inner one twice for tails, and the scale of the nearer tail."""
        last = self.edges.shape[-1] - 1
        left = taken(self.edges, jnp.clip(bar - 1, 0, last))
        right = taken(self.edges, jnp.clip(bar, 0, last))
        return left, right, taken(self.scales, jnp.where(bar == 0, 0, 1))

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density."""
        y = jnp.broadcast_to(value, jnp.broadcast_shapes(jnp.shape(value), self.batch_shape))
        bar, left, right, scale = self.parts(y)
        inside = (bar > 0) & (bar < self.logits.shape[-1] - 1)
        width = jnp.where(inside, right - left, 1.0)
        tail = jnp.log(2.0) + norm.logpdf((y - left) / scale) - jnp.log(scale)
        return taken(self.log_probs, bar) + jnp.where(inside, -jnp.log(width), tail)

    def cdf(self, value: Any) -> jax.Array:
        """P(Y <= value)."""
        y = jnp.broadcast_to(value, jnp.broadcast_shapes(jnp.shape(value), self.batch_shape))
        bar, left, right, scale = self.parts(y)
        before, mass = self.before(bar), jnp.exp(taken(self.log_probs, bar))
        last = self.logits.shape[-1] - 1
        share = jnp.clip((y - left) / jnp.where(right > left, right - left, 1.0), 0, 1)
        half = 2 * norm.cdf(-jnp.abs(y - left) / scale)
        return before + mass * jnp.where(bar == 0, half, jnp.where(bar == last, 1 - half, share))

    def before(self, bar: jax.Array) -> jax.Array:
        """P(Y in a bar further left)."""
        below = jnp.concatenate([jnp.zeros((*self.below.shape[:-1], 1)), self.below], -1)
        return taken(below, bar)

    def icdf(self, q: Any) -> jax.Array:
        """Quantiles, those of the tails too."""
        q = jnp.broadcast_to(q, jnp.broadcast_shapes(jnp.shape(q), self.batch_shape))
        below = jnp.broadcast_to(self.below, (*q.shape, self.below.shape[-1]))
        bar = jnp.sum(q[..., None] >= below, -1)
        left, right, scale = self.edges_of(bar)
        share = (q - self.before(bar)) / jnp.maximum(
            jnp.exp(taken(self.log_probs, bar)), jnp.finfo(q.dtype).tiny
        )
        share = jnp.clip(share, 0, 1)
        last = self.logits.shape[-1] - 1
        left_tail, right_tail = norm.ppf(share / 2), -norm.ppf((1 - share) / 2)
        return left + jnp.where(
            bar == 0,
            scale * left_tail,
            jnp.where(bar == last, scale * right_tail, share * (right - left)),
        )

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        shape = (*sample_shape, *self.batch_shape)
        dtype = self.log_probs.dtype
        return self.icdf(
            jax.random.uniform(key, shape, dtype, minval=jnp.finfo(dtype).tiny)
        )  # the quantile of 0 is infinite

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Mean and variance within each bar, shape (..., K)."""
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

    def crps(self, value: Any) -> jax.Array:
        """Int (F(t) - [t >= value])^2 dt in closed form: a parabola over each bar, and over the tails int Phi^2."""
        y = jnp.broadcast_to(value, self.batch_shape)
        before = jnp.concatenate(
            [jnp.zeros((*self.below.shape[:-1], 1)), self.below], -1
        )  # F at each bar's left edge
        mass, edges = (
            jnp.exp(self.log_probs),
            jnp.broadcast_to(self.edges, (*y.shape, self.edges.shape[-1])),
        )
        low, high, F = edges[..., :-1], edges[..., 1:], before[..., 1:-1]
        slope, cut = mass[..., 1:-1] / (high - low), jnp.clip(y[..., None], low, high)
        inner = parabola(F, slope, cut - low) + parabola(
            1 - F - slope * (cut - low), -slope, high - cut
        )
        first, last, (left, right) = (
            edges[..., 0],
            edges[..., -1],
            (self.scales[..., side] for side in (0, 1)),
        )
        below_first, above_last = jnp.maximum(first - y, 0), jnp.maximum(y - last, 0)
        return (
            inner.sum(-1)
            + tail(mass[..., 0], below_first, left)
            + tail(mass[..., -1], above_last, right)
        )

    @property
    def mean(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (jnp.exp(self.log_probs) * self.moments()[0]).sum(-1)

    @property
    def variance(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        means, within = self.moments()
        probs = jnp.exp(self.log_probs)
        mean = (probs * means).sum(-1, keepdims=True)
        return (probs * ((means - mean) ** 2 + within)).sum(-1)


class Grid(NamedTuple):
    """Where bars stand.

    Attributes:
        edges: inner ones, shape (..., K - 1).
        scales: of the tails, shape (..., 2).
    """

    edges: Any
    scales: Any


class Grids(NamedTuple):
    """Of all that a network predicts.

    Attributes:
        target: of y; None for classes.
        latents: of latent sites, leading axis over sites; None where there are none.
    """

    target: Grid | None
    latents: Grid | None = None


def parabola(start: jax.Array, slope: jax.Array, length: jax.Array) -> jax.Array:
    """The integral of (start + slope t)^2 over 0 <= t <= length."""
    return length * (start**2 + start * slope * length + (slope * length) ** 2 / 3)


def tail(mass: jax.Array, beyond: jax.Array, scale: jax.Array) -> jax.Array:
    """A tail's part of the CRPS of a target so far beyond the inner edge: of (1 - G)^2 up to it, and of G^2 from there on.

    G(t) = 2 mass Phi(-t / scale) is the probability beyond t; int_0^u Phi(-t) dt = u Phi(-u) - phi(u) + phi(0).
    """
    u = beyond / scale
    once = u * norm.cdf(-u) - norm.pdf(u) + norm.pdf(0.0)
    return scale * (u - 4 * mass * once + 4 * mass**2 * SQUARED_TAIL)


def law(logits: jax.Array, grid: Grid | None) -> Any:
    """The law of a network's logits: bars, or classes where there is no grid."""
    return Categorical(logits=logits) if grid is None else Bars(logits, *grid)


def like(values: Any, logits: Any) -> jax.Array:
    """Values with as many axes as logits."""
    return jnp.reshape(values, (1,) * (jnp.ndim(logits) - jnp.ndim(values)) + jnp.shape(values))


def taken(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[..., index], one for each entry of index, whose last axes are those of values without its last.

    Leading axes of the index, those of samples, are gathered without copies of the values.
    """
    batch = index.shape[index.ndim - values.ndim + 1 :]
    values = jnp.broadcast_to(values, (*batch, values.shape[-1]))
    by_entry = jnp.moveaxis(index.reshape(-1, *batch), 0, -1)
    return jnp.moveaxis(jnp.take_along_axis(values, by_entry, -1), -1, 0).reshape(index.shape)


def fitted_grid(y: np.ndarray, num_bars: int) -> Grid:
    """Equal numbers of these targets in each bar.

    Raises:
        ValueError: where there are too few different targets.
    """
    y = np.sort(np.asarray(y, np.float64).ravel())
    edges = (
        np.quantile(y, np.arange(1, num_bars) / num_bars).astype(np.float32).astype(np.float64)
    )  # as they will be used
    if np.any(np.diff(edges) <= 0):
        raise ValueError(
            f"The prior's targets have ties: {len(np.unique(edges))} different ones among {len(edges)} quantiles. Expected a "
            "law of y with a density; for counts or classes use a classifying network."
        )
    beyond = [edges[0] - y[y < edges[0]], y[y >= edges[-1]] - edges[-1]]
    return Grid(edges, np.array([np.sqrt(np.mean(part**2)) for part in beyond]))
