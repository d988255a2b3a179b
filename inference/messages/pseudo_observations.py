"""Likelihoods p(y | f) of one number as pseudo-observations exp(b f - w f^2 / 2).

Given the mean and variance of f under q, the weight w and the linear term b are

normal     w = 1 / sigma^2, b = y / sigma^2
student-t  a normal with precision w_n / sigma^2, w_n ~ Gamma(df / 2, df / 2); the best q(w_n) gives
           w = E[w_n] / sigma^2 with E[w_n] = (df + 1) / (df + E[(y - f)^2] / sigma^2), and a true
           bound
bernoulli, poisson
           conjugate-computation variational inference (Khan and Lin 2017, arXiv:1703.04265): with
           l(m, v) = E log p(y | f) for f ~ N(m, v), w = -2 dl/dv and b = dl/dm + w m; here f is
           treated as normal
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from numpyro import distributions as dist

# the number of nodes of Gauss-Hermite quadrature
NODES = 20

# From here on the exponential is continued by its second-order expansion.
LARGEST_LOG = 30.0


class PseudoObservations(NamedTuple):
    """The pseudo-observations of all entries.

    Attributes:
        weights: w, the precision of each entry, shape (N,).
        linear: b, precision times mean of each entry, shape (N,).
    """

    weights: Array
    linear: Array


class AbstractScalarLikelihood(abc.ABC):
    """A likelihood of one number f for each entry. Final classes are frozen dataclasses.

    Attributes:
        has_scale: whether there is a scale sigma.
        emphasis: how many times the data count in the first iterations; above 1 where starts would
            otherwise lose products that the data support.
    """

    has_scale: bool = False
    emphasis: float = 1.0

    @abc.abstractmethod
    def expected(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        """Return E log p(y | f), or a lower bound of it, for each entry."""

    @abc.abstractmethod
    def distribution(self, f: Array, sigma: ArrayLike) -> dist.Distribution:
        """Return the distribution of y given f."""

    def pseudo_observations(
        self, y: Array, mean: Array, variance: Array, sigma: ArrayLike
    ) -> PseudoObservations:
        """Return the pseudo-observations for these moments of f."""
        by_mean = jax.grad(lambda m: self.expected(y, m, variance, sigma).sum())(mean)
        weights = -2 * jax.grad(lambda v: self.expected(y, mean, v, sigma).sum())(variance)
        return PseudoObservations(weights, by_mean + weights * mean)

    def first_pseudo_observations(self, y: Array) -> PseudoObservations | None:
        """Return pseudo-observations to start from, or None for those of the random start."""
        return None

    def spread(self, y: np.ndarray) -> float:
        """Return the variance that f has, at least, if it explains y."""
        return float(np.var(y))

    @abc.abstractmethod
    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        """Return log p(y | f) of the best constant f, the baseline for a fit that found nothing."""

    def noise(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        """Return the sum of weighted squares whose mean is the best sigma^2 under a flat prior."""
        return jnp.zeros(())

    def predictive(self, mean: Array, variance: Array, sigma: ArrayLike) -> dist.Distribution:
        """Return the distribution of y for normal f: a mixture over the nodes of a quadrature."""
        f, weights = _evaluate_at_nodes(mean, variance)
        mixing = dist.CategoricalProbs(jnp.broadcast_to(weights, f.shape))
        return dist.MixtureSameFamily(mixing, self.distribution(f, sigma))

    def epistemic(self, mean: Array, variance: Array) -> Array:
        """Return the epistemic part of the uncertainty about y, for f ~ N(mean, variance).

        It is Var E[y | f]; for labels it is the mutual information I(y; f) in nats.
        """
        return variance


def _quadrature() -> tuple[Array, Array]:
    """Return nodes and weights of the expectation under N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return jnp.asarray(nodes), jnp.asarray(weights / weights.sum())


def _evaluate_at_nodes(mean: Array, variance: Array) -> tuple[Array, Array]:
    """Return normal f at the nodes, shape (n, nodes), and the weights of the nodes."""
    nodes, weights = _quadrature()
    return mean[:, None] + jnp.sqrt(variance)[:, None] * nodes[None], weights


@dataclasses.dataclass(frozen=True)
class Normal(AbstractScalarLikelihood):
    """The normal likelihood N(f, sigma^2)."""

    has_scale = True

    def expected(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        squares = (y - mean) ** 2 + variance
        return -0.5 * math.log(2 * math.pi) - jnp.log(sigma) - squares / (2 * sigma**2)

    def noise(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        return jnp.sum((y - mean) ** 2 + variance)

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        return float(dist.Normal(y.mean(), y.std()).log_prob(y).sum())

    def distribution(self, f: Array, sigma: ArrayLike) -> dist.Distribution:
        return dist.Normal(f, sigma)

    def predictive(self, mean: Array, variance: Array, sigma: ArrayLike) -> dist.Distribution:
        return dist.Normal(mean, jnp.sqrt(variance + sigma**2))


@dataclasses.dataclass(frozen=True)
class StudentT(AbstractScalarLikelihood):
    """The Student-t likelihood around f, with scale sigma and fixed degrees of freedom `df`."""

    df: float
    has_scale = True

    def expected(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        squares, half = (y - mean) ** 2 + variance, (self.df + 1) / 2
        constant = gammaln(half) - gammaln(self.df / 2) - 0.5 * math.log(math.pi * self.df)
        return constant - jnp.log(sigma) - half * jnp.log1p(squares / (self.df * sigma**2))

    def noise(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        squares = (y - mean) ** 2 + variance
        return jnp.sum(squares * (self.df + 1) / (self.df + squares / sigma**2))

    def spread(self, y: np.ndarray) -> float:
        return _robust_scale(y) ** 2

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        return float(dist.StudentT(self.df, np.median(y), _robust_scale(y)).log_prob(y).sum())

    def distribution(self, f: Array, sigma: ArrayLike) -> dist.Distribution:
        return dist.StudentT(self.df, f, sigma)


@dataclasses.dataclass(frozen=True)
class Bernoulli(AbstractScalarLikelihood):
    """The Bernoulli likelihood; f is the logit of the probability."""

    # With labels counted once, most starts lose products that the data support, and do not
    # regain them.
    emphasis = 4.0

    def expected(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        f, weights = _evaluate_at_nodes(mean, variance)
        return y * mean - (jax.nn.softplus(f) * weights[None]).sum(1)

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        p = np.clip(y.mean(), 1e-12, 1 - 1e-12)
        return float(len(y) * (p * np.log(p) + (1 - p) * np.log1p(-p)))

    def distribution(self, f: Array, sigma: ArrayLike) -> dist.Distribution:
        return dist.Bernoulli(logits=f)

    def predictive(self, mean: Array, variance: Array, sigma: ArrayLike) -> dist.Distribution:
        f, weights = _evaluate_at_nodes(mean, variance)
        return dist.Bernoulli(probs=(jax.nn.sigmoid(f) * weights[None]).sum(1))

    def epistemic(self, mean: Array, variance: Array) -> Array:
        f, weights = _evaluate_at_nodes(mean, variance)
        conditional = (_logit_entropy(f) * weights[None]).sum(1)
        p = (jax.nn.sigmoid(f) * weights[None]).sum(1)
        return jnp.maximum(
            jax.scipy.special.entr(p) + jax.scipy.special.entr(1 - p) - conditional, 0.0
        )


@dataclasses.dataclass(frozen=True)
class Poisson(AbstractScalarLikelihood):
    """The Poisson likelihood; f is the log of the rate."""

    def expected(self, y: Array, mean: Array, variance: Array, sigma: ArrayLike) -> Array:
        return y * mean - _bounded_exp(mean + variance / 2) - gammaln(y + 1)

    def first_pseudo_observations(self, y: Array) -> PseudoObservations:
        # a first step of weighted least squares from f = log y, which distant starts need
        counts = y + 0.5
        return PseudoObservations(counts, counts * jnp.log(counts))

    def spread(self, y: np.ndarray) -> float:
        return float(np.var(np.log(y + 0.5)))

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        return float((y * np.log(max(y.mean(), 1e-12)) - y.mean() - gammaln(y + 1)).sum())

    def distribution(self, f: Array, sigma: ArrayLike) -> dist.Distribution:
        return dist.Poisson(jnp.exp(f))

    def epistemic(self, mean: Array, variance: Array) -> Array:
        f, weights = _evaluate_at_nodes(mean, variance)
        rates = jnp.exp(f)
        expected = (rates * weights[None]).sum(1, keepdims=True)
        return ((rates - expected) ** 2 * weights[None]).sum(1)


def _logit_entropy(f: Array) -> Array:
    """Return the entropy of a Bernoulli variable with this logit, in nats."""
    return jax.nn.softplus(f) - f * jax.nn.sigmoid(f)


def _robust_scale(y: np.ndarray) -> float:
    """Return the standard deviation of a normal distribution with the quartiles of y."""
    low, high = np.quantile(y, [0.25, 0.75])
    return float(max(high - low, 1e-12) / 1.349)


def _bounded_exp(log_rate: Array) -> Array:
    """Return exp, continued by its second-order expansion from `LARGEST_LOG` on.

    So it has a curvature everywhere and does not overflow.
    """
    inside, beyond = jnp.minimum(log_rate, LARGEST_LOG), jnp.maximum(log_rate - LARGEST_LOG, 0.0)
    return jnp.exp(inside) * (1 + beyond + beyond**2 / 2)
