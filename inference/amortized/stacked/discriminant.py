"""Linear and quadratic discriminants: rows are normal given their class, with conjugate priors.

    x | c ~ N(m_c, S_c),    m_c | S_c ~ N(0, S_c / k0),    S_c ~ inverse Wishart(Lambda0, nu0)

The predictive density of a class with n_c rows is Student's t. With d = columns, k_c = k0 + n_c and
nu_c = nu0 + n_c,

    log p(x | c) = log Gamma((nu_c + 1) / 2) - log Gamma((nu_c + 1 - d) / 2)
        - 1/2 log |Lambda_c| - d/2 log((k_c + 1) / k_c)
        - (nu_c + 1) / 2 log(1 + k_c / (k_c + 1) (x - m_c)' Lambda_c^-1 (x - m_c)) + constant

Classes of a linear discriminant share S. Those of a quadratic one have the pooled covariance as
their prior mean. Without row i, Lambda loses k_c / (k_c - 1) (x_i - m_c)(x_i - m_c)', which is a
change of rank one, and the covariance that classes share or have as their prior loses it too. The
weight of that prior, which depends on the number of all rows, stays.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln

# The rows that the prior of a mean counts for.
PRIOR_ROWS = 0.5

# How many degrees of freedom the prior of covariances has beyond the columns.
SHARED_FREEDOM = 4.0
OWN_FREEDOM = 8.0

# The prior variance within classes, in standardised units.
VARIANCE = 0.5

TINY = 1e-6


class Discriminant(NamedTuple):
    """The densities of classes.

    Attributes:
        means: the means, shape (classes, columns).
        factors: the Cholesky factors of Lambda, shape (classes or 1, columns, columns).
        freedom: the degrees of freedom nu, shape (classes or 1,).
        counts: the number of rows of each class, shape (classes,).
        columns: the number of columns that are used.
        sharing: how much of another row's scatter is in a class's Lambda, shape (classes or 1,).
        own: how much more of it is there if that row is of the class itself.
    """

    means: jax.Array
    factors: jax.Array
    freedom: jax.Array
    counts: jax.Array
    columns: jax.Array
    sharing: jax.Array
    own: jax.Array

    def log_joint(self, x: jax.Array) -> jax.Array:
        """Return log p(x | c) + log p(c) of new rows, shape (rows, classes)."""
        white = self.whiten_offsets(x)
        k = PRIOR_ROWS + self.counts
        squares = (white**2).sum(1).T
        return _log_shares(self.counts)[None, :] + self.log_density(
            squares, k[None, :], self.freedom[None, :], self.log_det()[None, :]
        )

    def left_out(self, x: jax.Array, targets: jax.Array) -> jax.Array:
        """Return log p(x | c) + log p(c) of the context, each row without itself.

        Args:
            x: the context, shape (rows, columns).
            targets: the classes as zeros and ones, shape (rows, classes), zero for padding.
        """
        own, padding = targets > 0, 1 - targets.sum(1, keepdims=True)
        k = jnp.broadcast_to(PRIOR_ROWS + self.counts[None, :], targets.shape)
        k_own = (targets * k).sum(1, keepdims=True) + 2 * padding
        s = k_own / (k_own - 1)
        # The deviations from the row's own class, in the units of each class's Lambda.
        mine = self.whiten(x[None] - (targets @ self.means)[None])
        white = self.whiten_offsets(x)
        h = (mine**2).sum(1).T
        cross = (white * mine).sum(1).T
        lost = s * (self.sharing[None, :] + self.own * own)
        rest = jnp.maximum(1 - lost * h, TINY)
        h, rest = (jnp.broadcast_to(part, targets.shape) for part in (h, rest))
        # Its own mean moves too.
        squares = jnp.where(own, s**2 * h / rest, (white**2).sum(1).T + lost * cross**2 / rest)
        freedom = self.freedom[None, :] - jnp.where(self.own > 0, targets, 1.0)
        det = self.log_det()[None, :] + jnp.log(rest)
        counts = self.counts[None, :] - targets
        k = jnp.where(own, k - 1, k)
        return _log_shares(counts) + self.log_density(squares, k, freedom, det)

    def log_det(self) -> jax.Array:
        """Return log |Lambda|, shape (classes or 1,)."""
        return 2 * jnp.log(jnp.diagonal(self.factors, axis1=1, axis2=2)).sum(1)

    def whiten_offsets(self, x: jax.Array) -> jax.Array:
        """Return L_c^-1 (x - m_c), shape (classes, columns, rows)."""
        return self.whiten(x[None] - self.means[:, None, :])

    def whiten(self, offsets: jax.Array) -> jax.Array:
        """Return L_c^-1 d for offsets d of shape (classes or 1, rows, columns).

        The result has shape (classes or 1, columns, rows).
        """
        classes, rows, columns = offsets.shape
        if len(self.factors) == 1:
            flat = offsets.reshape(-1, columns).T
            found = solve_triangular(self.factors[0], flat, lower=True)
            return found.reshape(columns, classes, rows).swapaxes(0, 1)
        offsets = jnp.broadcast_to(offsets, (len(self.factors), rows, columns))
        return jax.lax.map(
            lambda pair: solve_triangular(pair[0], pair[1].T, lower=True), (self.factors, offsets)
        )

    def log_density(
        self, squares: jax.Array, k: jax.Array, freedom: jax.Array, log_det: jax.Array
    ) -> jax.Array:
        """Return log p(x | c) as in the module's docstring, given its parts."""
        d = self.columns
        return (
            gammaln((freedom + 1) / 2)
            - gammaln((freedom + 1 - d) / 2)
            - log_det / 2
            - d / 2 * jnp.log((k + 1) / k)
            - (freedom + 1) / 2 * jnp.log1p(k / (k + 1) * squares)
        )


def fit(x: jax.Array, targets: jax.Array, used: jax.Array) -> tuple[Discriminant, Discriminant]:
    """Fit a linear and a quadratic discriminant.

    Args:
        x: the context, shape (rows, columns), zero in columns that are not used.
        targets: the classes as zeros and ones, shape (rows, classes), zero for padding.
        used: whether a column is used, shape (columns,).
    """
    counts, columns = targets.sum(0), used.sum().astype(x.dtype)
    k = PRIOR_ROWS + counts
    sums = targets.T @ x
    means = sums / k[:, None]
    eye = jnp.eye(x.shape[1], dtype=x.dtype)

    def scatter(given: tuple) -> jax.Array:
        weights, mean = given
        offsets = (x - mean[None, :]) * weights[:, None]
        # Around the posterior's mean, which is pulled to zero.
        return offsets.T @ offsets + PRIOR_ROWS * mean[:, None] * mean[None, :]

    scatters = jax.lax.map(scatter, (targets.T, means))
    spare, rows, one = SHARED_FREEDOM - 1, counts.sum(), jnp.ones((), x.dtype)
    shared = spare * VARIANCE * eye + scatters.sum(0)
    freedom = columns + SHARED_FREEDOM + rows
    pooling = _pooling(spare + rows)
    own = pooling * shared[None] + scatters
    linear = jnp.linalg.cholesky(shared)[None], freedom[None], counts, columns, one[None], 0 * one
    freedoms = columns + 1 + OWN_FREEDOM + counts
    quadratic = jnp.linalg.cholesky(own), freedoms, counts, columns, pooling[None], one
    return Discriminant(means, *linear), Discriminant(means, *quadratic)


def _pooling(rows: jax.Array) -> jax.Array:
    """Return the weight of the pooled scatter, whose mean is the prior mean of each class's."""
    return OWN_FREEDOM / rows


def _log_shares(counts: jax.Array) -> jax.Array:
    """Return the logarithms of numbers of rows, with one more for each class."""
    return jnp.log(counts + 1)
