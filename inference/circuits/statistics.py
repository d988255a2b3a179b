"""Expected sufficient statistics of a circuit, and the conjugate posteriors that they make.

Roots, edges and categories have Dirichlet priors. A block with state k has the
normal-inverse-Wishart prior

    S ~ IW(nu, Psi),   mu | S ~ N(0, S / kappa).

With expected counts, sums and sums of squares of the rows the posterior is of the same kind. In
place of its numbers an upward pass takes their posterior mean (`EM`), or exp E[log .] (`VBEM`):
exp(digamma(a) - digamma(sum a)) for probabilities, and for a block the normal with precision
nu Psi^-1 times a constant. The predictive of a new row under these posteriors is a circuit again:
with mean probabilities, as p(x) is linear in each of them, and with Student's t for blocks.

Attias (2000), "A variational Bayesian framework for graphical models".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike
from numpyro.distributions import Dirichlet, kl_divergence

from inference.circuits.layout import Layout
from inference.circuits.leaves import (
    Normals,
    Patterns,
    Terms,
    Weights,
    emissions,
    one_hot,
)
from inference.circuits.passes import tree_log_densities
from inference.core.typing import AnyArray, Key


class Moments(NamedTuple):
    """Expected count, sum and sum of squares of rows, for the blocks of one size d.

    Attributes:
        count: shape (blocks, K).
        sums: shape (blocks, K, d).
        squares: shape (blocks, K, d, d).
    """

    count: AnyArray
    sums: AnyArray
    squares: AnyArray


class Statistics(NamedTuple):
    """Expected statistics of all rows.

    Attributes:
        roots: shape (trees, K).
        edges: shape (edges, K, K).
        levels: for each number L of levels, shape (leaves, K, L).
        moments: of the blocks of each size.
    """

    roots: AnyArray
    edges: AnyArray
    levels: tuple[AnyArray, ...]
    moments: tuple[Moments, ...]


class Prior(NamedTuple):
    """The prior of a circuit's numbers.

    Attributes:
        roots: Dirichlet parameters, shape (trees, K).
        edges: Dirichlet parameters, shape (edges, K, K).
        levels: Dirichlet parameters, shape (leaves, K, L) for each number of levels.
        kappa: how many rows the prior mean of a block counts as.
        scales: Psi of the blocks of each size, shape (blocks, d, d), which is the prior mean of the
            covariance, as nu = d + 2.
    """

    roots: AnyArray
    edges: AnyArray
    levels: tuple[AnyArray, ...]
    kappa: ArrayLike
    scales: tuple[AnyArray, ...]


class Wishart(NamedTuple):
    """Normal-inverse-Wishart parameters of the blocks of one size."""

    mean: AnyArray
    kappa: AnyArray
    nu: AnyArray
    psi: AnyArray


def expect(
    layout: Layout,
    weights: Weights,
    table: jax.Array,
    patterns: tuple[Patterns, ...],
    counts: jax.Array,
    joint: ArrayLike = True,
) -> tuple[Statistics, jax.Array]:
    """Return expected statistics, and the log density of each row.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows.
        patterns: the patterns of missing cells of the blocks of each size.
        counts: how much each row counts, shape (rows,).
        joint: whether rows are shared out among the trees of a mixture; otherwise each tree learns
            from all of them.
    """
    e, terms = emissions(layout, weights, table, patterns)
    vjp: Any = jax.vjp(
        lambda *given: tree_log_densities(layout, *given), weights.roots, weights.edges, e
    )
    each, pull = vjp
    value = jax.nn.logsumexp(each, axis=0)
    share = jnp.where(joint, jnp.exp(each - value[None]), 1.0).astype(each.dtype)
    roots, edges, r = pull(share * counts[None].astype(e.dtype))
    levels = []
    for number in layout.kinds:
        columns, nodes = layout.categories_of(number)
        coded = one_hot(table[:, columns].T, number, e.dtype)
        levels.append(jnp.einsum("nbl,nbk->nkl", coded, r[nodes]))
    moments = []
    for at, size in enumerate(layout.sizes):
        columns, nodes = layout.blocks_of(size)
        x = table[:, columns].transpose(1, 0, 2)
        seen = ~jnp.isnan(x)
        some = r[nodes].astype(x.dtype) * seen.any(-1)[..., None]
        moments.append(_moments(weights.normals[at], terms[at], x, some, patterns[at]))
    return Statistics(roots, edges, tuple(levels), tuple(moments)), value


def _moments(
    normals: Normals, terms: Terms, x: jax.Array, r: jax.Array, patterns: Patterns
) -> Moments:
    """Return the statistics of blocks, with missing cells as they are expected."""
    matrix = jnp.asarray(normals.matrix)
    filled = normals.mean[:, None] + jnp.einsum("nkij,nbkj->nbki", matrix, terms.solved)
    filled = jnp.where(jnp.isnan(x)[:, :, None], filled, x[:, :, None])
    sums = jnp.einsum("nbk,nbki->nki", r, filled)
    squares = jnp.einsum("nbk,nbki,nbkj->nkij", r, filled, filled)
    by_pattern = jnp.zeros((len(x), terms.precision.shape[1], r.shape[-1]), r.dtype)
    by_pattern = by_pattern.at[np.arange(len(x))[:, None], patterns.rows].add(r)
    whole = matrix[:, None]
    left = whole - whole @ terms.precision @ whole
    return Moments(r.sum(1), sums, squares + jnp.einsum("nuk,nukij->nkij", by_pattern, left))


def concentrations(prior: Prior, found: Statistics) -> tuple[Any, Any, tuple]:
    """Return the Dirichlet parameters of roots, edges and categories."""
    levels = tuple(a + n for a, n in zip(prior.levels, found.levels, strict=True))
    return prior.roots + found.roots, prior.edges + found.edges, levels


def wisharts(prior: Prior, found: Statistics) -> tuple[Wishart, ...]:
    """Return the posteriors of blocks, for each size."""
    made = []
    for scale, moments in zip(prior.scales, found.moments, strict=True):
        kappa = prior.kappa + moments.count
        mean = moments.sums / kappa[..., None]
        centre = kappa[..., None, None] * mean[..., :, None] * mean[..., None, :]
        psi = scale[:, None] + moments.squares - centre
        nu = _prior_freedom(scale) + moments.count
        made.append(Wishart(mean, kappa, nu, (psi + psi.mT) / 2))
    return tuple(made)


def _prior_freedom(scale: AnyArray) -> float:
    """Return nu of the prior, given Psi of blocks."""
    return scale.shape[-1] + 2.0


def mean_weights(prior: Prior, found: Statistics) -> Weights:
    """Return the posterior mode: of probabilities in the softmax basis, of blocks of (mu, S)."""
    normals = [
        Normals(w.mean, w.psi / (w.nu + w.psi.shape[-1] + 2)[..., None, None])
        for w in wisharts(prior, found)
    ]
    return _weights(concentrations(prior, found), jnp.log, normals)


def expected_weights(prior: Prior, found: Statistics) -> Weights:
    """Return exp E[log .] of all numbers, by which a pass gives the bound of `VBEM`."""
    normals = []
    for w in wisharts(prior, found):
        size = w.psi.shape[-1]
        log_det = digamma(_halves(w)).sum(-1) + size * jnp.log(2 / w.nu)
        constant = 0.5 * (log_det - size / w.kappa)
        normals.append(Normals(w.mean, w.psi / w.nu[..., None, None], None, constant))
    return _weights(concentrations(prior, found), digamma, normals)


def predictive_weights(prior: Prior, found: Statistics) -> Weights:
    """Return the circuit that is the predictive of a new row under the posterior."""
    normals = []
    for w in wisharts(prior, found):
        freedom = w.nu - w.psi.shape[-1] + 1
        scale = (w.kappa + 1) / (w.kappa * freedom)
        normals.append(Normals(w.mean, w.psi * scale[..., None, None], freedom))
    return _weights(concentrations(prior, found), jnp.log, normals)


def _weights(parameters: tuple, log: Any, normals: list) -> Weights:
    roots, edges, levels = parameters
    return Weights(
        log(roots) - log(roots.sum()),
        log(edges) - log(edges.sum(-1, keepdims=True)),
        tuple(log(a) - log(a.sum(-1, keepdims=True)) for a in levels),
        tuple(normals),
    )


def draw_weights(prior: Prior, found: Statistics, key: Key) -> Weights:
    """Draw all numbers from their posteriors."""
    roots, edges, levels = concentrations(prior, found)
    posteriors = wisharts(prior, found)
    for_gammas, for_normals = jax.random.split(key)
    # one array of each kind of noise: random numbers are what compiles slowest
    wanted = [roots, edges, *levels, *(_halves(w) for w in posteriors)]
    flat = jnp.concatenate([jnp.ravel(a).astype(float) for a in wanted])
    gammas = _split(jax.random.loggamma(for_gammas, flat), [jnp.shape(a) for a in wanted])
    shapes = [shape for w in posteriors for shape in (w.psi.shape, w.mean.shape)]
    count = sum(int(np.prod(shape)) for shape in shapes)
    noise = iter(_split(jax.random.normal(for_normals, (count,)), shapes))
    normals = []
    for w, logs in zip(posteriors, gammas[2 + len(levels) :], strict=True):
        matrix = _inverse_wishart(w, logs, next(noise))
        factor = jnp.linalg.cholesky(matrix / w.kappa[..., None, None])
        normals.append(Normals(w.mean + jnp.einsum("nkij,nkj->nki", factor, next(noise)), matrix))
    drawn = [_log_shares(logs) for logs in gammas[1 : 2 + len(levels)]]
    return Weights(
        _log_shares(gammas[0].reshape(-1)).reshape(roots.shape),
        drawn[0],
        tuple(drawn[1:]),
        tuple(normals),
    )


def _split(flat: jax.Array, shapes: list) -> list[jax.Array]:
    """Return parts of a flat array in their shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = jnp.split(flat, ends[:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _log_shares(log_gammas: jax.Array) -> jax.Array:
    """Return the logarithms of Dirichlet draws, nowhere minus infinity."""
    return jnp.maximum(jax.nn.log_softmax(log_gammas, -1), math.log(1e-30))


def _halves(w: Wishart) -> jax.Array:
    """Return (nu - i) / 2 for i in 0..d-1, shape (blocks, K, d)."""
    return (jnp.asarray(w.nu)[..., None] - jnp.arange(w.psi.shape[-1])[None, None]) / 2


def _inverse_wishart(w: Wishart, log_gammas: jax.Array, noise: jax.Array) -> jax.Array:
    """Return covariances by Bartlett's decomposition of their inverses.

    Args:
        w: the posteriors.
        log_gammas: of shapes (nu - i) / 2, shape (blocks, K, d).
        noise: standard normal numbers, shape (blocks, K, d, d).
    """
    roots = jnp.sqrt(2 * jnp.exp(log_gammas))
    A = jnp.tril(noise, -1) + roots[..., None] * jnp.eye(w.psi.shape[-1])[None, None]
    # with Psi = C C', the inverse of C'^-1 A A' C^-1
    C = jnp.linalg.cholesky(jnp.asarray(w.psi))
    half = jax.scipy.linalg.solve_triangular(A, C.mT, lower=True)
    return half.mT @ half


def log_prior(prior: Prior, weights: Weights) -> jax.Array:
    """Return the log prior of probabilities in the softmax basis, and of blocks, up to a constant.

    Args:
        prior: the prior.
        weights: the numbers.
    """
    total = (prior.roots * weights.roots).sum() + (prior.edges * weights.edges).sum()
    for a, logs in zip(prior.levels, weights.levels, strict=True):
        total += (a * logs).sum()
    for scale, normals in zip(prior.scales, weights.normals, strict=True):
        power = _prior_freedom(scale) + scale.shape[-1] + 2
        inverse, log_det = jnp.linalg.inv(normals.matrix), jnp.linalg.slogdet(normals.matrix)[1]
        trace = jnp.einsum("nij,nkji->nk", scale, inverse)
        distance = jnp.einsum("nki,nkij,nkj->nk", normals.mean, inverse, normals.mean)
        total -= 0.5 * (power * log_det + trace + prior.kappa * distance).sum()
    return total


def kl_from_prior(prior: Prior, found: Statistics) -> jax.Array:
    """Return the Kullback-Leibler divergence of the posteriors from the prior, in nats."""
    roots, edges, levels = concentrations(prior, found)
    total = _dirichlet_kl(roots.reshape(-1), jnp.asarray(prior.roots).reshape(-1)).sum()
    total += _dirichlet_kl(edges, jnp.asarray(prior.edges)).sum()
    for a, b in zip(levels, prior.levels, strict=True):
        total += _dirichlet_kl(a, jnp.asarray(b)).sum()
    for w, scale in zip(wisharts(prior, found), prior.scales, strict=True):
        total += _wishart_kl(w, prior.kappa, jnp.asarray(scale)[:, None]).sum()
    return total


def _dirichlet_kl(a: jax.Array, b: jax.Array) -> jax.Array:
    # of a single node there are no edges, which NumPyro does not take
    if not a.size:
        return jnp.zeros(a.shape[:-1])
    return jnp.asarray(kl_divergence(Dirichlet(a), Dirichlet(b)))


def _wishart_kl(w: Wishart, kappa: ArrayLike, scale: jax.Array) -> jax.Array:
    """Return the divergence of posteriors from priors of mean zero, shape (blocks, K).

    Args:
        w: the posteriors.
        kappa: how many rows the prior mean counts as.
        scale: Psi of the priors, shape (blocks, 1, d, d).
    """
    # the inverse and the determinant by one Cholesky factor
    factor = jnp.linalg.cholesky(jnp.asarray(w.psi))
    eye = jnp.broadcast_to(jnp.eye(w.psi.shape[-1], dtype=factor.dtype), factor.shape)
    half = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    log_det = 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    distance = (jnp.einsum("nkij,nkj->nki", half, w.mean) ** 2).sum(-1)
    size, nu = w.psi.shape[-1], _prior_freedom(scale)
    halves, old = _halves(w), (nu - jnp.arange(size)) / 2
    prior_det = jnp.linalg.slogdet(scale)[1]
    expected = digamma(halves).sum(-1) + size * math.log(2.0) - log_det
    trace = (half.mT @ half * scale).sum((-2, -1))
    wishart = (
        0.5 * (w.nu * log_det - nu * prior_det)
        - 0.5 * (w.nu - nu) * size * math.log(2.0)
        - (gammaln(halves).sum(-1) - gammaln(old).sum())
        + 0.5 * (w.nu - nu) * expected
        + 0.5 * w.nu * (trace - size)
    )
    ratio = kappa / w.kappa
    normal = 0.5 * (size * (ratio - 1 - jnp.log(ratio)) + kappa * w.nu * distance)
    return wishart + normal
