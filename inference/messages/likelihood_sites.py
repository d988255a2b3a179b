"""Likelihoods p(y | f) as scalar sites: exp(b f - w f^2 / 2) in the place of each, given mean and variance of f under q.

normal     w = 1 / sigma^2, b = y / sigma^2
student-t  a normal with precision w_n / sigma^2, w_n ~ Gamma(df / 2, df / 2); the best q(w_n) gives
           w = E[w_n] / sigma^2 with E[w_n] = (df + 1) / (df + E[(y - f)^2] / sigma^2), and a true bound
bernoulli, poisson
           conjugate-computation variational inference (Khan and Lin 2017, arXiv:1703.04265): with
           l(m, v) = E log p(y | f) for f ~ N(m, v), w = -2 dl/dv and b = dl/dm + w m; f is taken for normal there
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from numpyro import distributions as dist

NODES = 20  # of Gauss-Hermite quadrature


class PseudoObservations(NamedTuple):
    """Weight w and linear term b of each entry, shape (N,)."""

    weights: Any
    linear: Any


class AbstractScalarLikelihood(abc.ABC):
    """A likelihood of one number f per entry. Final classes are frozen dataclasses.

    Attributes:
        has_scale: whether there is a scale sigma.
        emphasis: how many times the data count in the first iterations.
    """

    has_scale: bool = False
    emphasis: float = 1.0

    @abc.abstractmethod
    def expected(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        """E log p(y | f), or its bound, for each entry."""

    @abc.abstractmethod
    def distribution(self, f: Any, sigma: Any) -> Any:
        """The law of y given f."""

    def pseudo_observations(
        self, y: Any, mean: Any, variance: Any, sigma: Any
    ) -> PseudoObservations:
        """The sites for these moments of f."""
        by_mean = jax.grad(lambda m: self.expected(y, m, variance, sigma).sum())(mean)
        weights = -2 * jax.grad(lambda v: self.expected(y, mean, v, sigma).sum())(variance)
        return PseudoObservations(weights, by_mean + weights * mean)

    def first_pseudo_observations(self, y: Any) -> PseudoObservations | None:
        """PseudoObservations to begin with, where those of random functions lead astray; otherwise None."""
        return None

    def spread(self, y: np.ndarray) -> float:
        """The variance that f has, or more, where it explains y."""
        return float(np.var(y))

    @abc.abstractmethod
    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        """Log p(y | f) of the best constant f."""

    def noise(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        """The sum of weighted squares whose mean is the best sigma^2 but for its prior."""
        return jnp.zeros(())

    def predicted(self, mean: Any, variance: Any, sigma: Any) -> Any:
        """The law of y for f ~ N(mean, variance): a mixture over the nodes of a quadrature."""
        f, weights = evaluate_at_nodes(mean, variance)
        mixing = dist.CategoricalProbs(jnp.broadcast_to(weights, f.shape))
        return dist.MixtureSameFamily(mixing, self.distribution(f, sigma))

    def epistemic(self, mean: Any, variance: Any) -> Any:
        """What of the doubt about y comes from f ~ N(mean, variance): Var E[y | f], where y is a label I(y; f) in nats."""
        return variance


def quadrature() -> tuple[Any, Any]:
    """Nodes and weights of the expectation under N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return jnp.asarray(nodes), jnp.asarray(weights / weights.sum())


def evaluate_at_nodes(mean: Any, variance: Any) -> tuple[Any, Any]:
    """Normal f with this mean and variance at the nodes, shape (n, nodes), and their weights."""
    nodes, weights = quadrature()
    return mean[:, None] + jnp.sqrt(variance)[:, None] * nodes[None], weights


@dataclasses.dataclass(frozen=True)
class Normal(AbstractScalarLikelihood):
    """See the module's docstring."""

    has_scale = True

    def expected(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        squares = (y - mean) ** 2 + variance
        return -0.5 * math.log(2 * math.pi) - jnp.log(sigma) - squares / (2 * sigma**2)

    def noise(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        return jnp.sum((y - mean) ** 2 + variance)

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        return float(dist.Normal(y.mean(), y.std()).log_prob(y).sum())

    def distribution(self, f: Any, sigma: Any) -> Any:
        return dist.Normal(f, sigma)

    def predicted(self, mean: Any, variance: Any, sigma: Any) -> Any:
        return dist.Normal(mean, jnp.sqrt(variance + sigma**2))


@dataclasses.dataclass(frozen=True)
class StudentT(AbstractScalarLikelihood):
    """See the module's docstring."""

    df: float
    has_scale = True

    def expected(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        squares, half = (y - mean) ** 2 + variance, (self.df + 1) / 2
        constant = gammaln(half) - gammaln(self.df / 2) - 0.5 * math.log(math.pi * self.df)
        return constant - jnp.log(sigma) - half * jnp.log1p(squares / (self.df * sigma**2))

    def noise(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        squares = (y - mean) ** 2 + variance
        return jnp.sum(squares * (self.df + 1) / (self.df + squares / sigma**2))

    def spread(self, y: np.ndarray) -> float:
        return robust_scale(y) ** 2

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        return float(dist.StudentT(self.df, np.median(y), robust_scale(y)).log_prob(y).sum())

    def distribution(self, f: Any, sigma: Any) -> Any:
        return dist.StudentT(self.df, f, sigma)


@dataclasses.dataclass(frozen=True)
class Bernoulli(AbstractScalarLikelihood):
    """See the module's docstring; the logit of the probability is f."""

    emphasis = 4.0  # with bits counted once, most starts lose products that the data speak for, and do not get them back

    def expected(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        f, weights = evaluate_at_nodes(mean, variance)
        return y * mean - (jax.nn.softplus(f) * weights[None]).sum(1)

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        p = np.clip(y.mean(), 1e-12, 1 - 1e-12)
        return float(len(y) * (p * np.log(p) + (1 - p) * np.log1p(-p)))

    def distribution(self, f: Any, sigma: Any) -> Any:
        return dist.Bernoulli(logits=f)

    def predicted(self, mean: Any, variance: Any, sigma: Any) -> Any:
        f, weights = evaluate_at_nodes(mean, variance)
        return dist.Bernoulli(probs=(jax.nn.sigmoid(f) * weights[None]).sum(1))

    def epistemic(self, mean: Any, variance: Any) -> Any:
        f, weights = evaluate_at_nodes(mean, variance)
        conditional = (logit_entropy(f) * weights[None]).sum(1)
        p = (jax.nn.sigmoid(f) * weights[None]).sum(1)
        return jnp.maximum(
            jax.scipy.special.entr(p) + jax.scipy.special.entr(1 - p) - conditional, 0.0
        )


@dataclasses.dataclass(frozen=True)
class Poisson(AbstractScalarLikelihood):
    """See the module's docstring; the log of the rate is f."""

    def expected(self, y: Any, mean: Any, variance: Any, sigma: Any) -> Any:
        return y * mean - bounded_exp(mean + variance / 2) - gammaln(y + 1)

    def first_pseudo_observations(self, y: Any) -> Any:
        counts = (
            y + 0.5
        )  # as a first step of weighted least squares from f = log y, which far starts need
        return PseudoObservations(counts, counts * jnp.log(counts))

    def spread(self, y: np.ndarray) -> float:
        return float(np.var(np.log(y + 0.5)))

    def log_likelihood_of_constant(self, y: np.ndarray) -> float:
        return float((y * np.log(max(y.mean(), 1e-12)) - y.mean() - gammaln(y + 1)).sum())

    def distribution(self, f: Any, sigma: Any) -> Any:
        return dist.Poisson(jnp.exp(f))

    def epistemic(self, mean: Any, variance: Any) -> Any:
        f, weights = evaluate_at_nodes(mean, variance)
        rates = jnp.exp(f)
        expected = (rates * weights[None]).sum(1, keepdims=True)
        return ((rates - expected) ** 2 * weights[None]).sum(1)


def logit_entropy(f: Any) -> Any:
    """Of a bit with this logit, in nats."""
    return jax.nn.softplus(f) - f * jax.nn.sigmoid(f)


def robust_scale(y: np.ndarray) -> float:
    """The standard deviation of a normal with these quartiles."""
    low, high = np.quantile(y, [0.25, 0.75])
    return float(max(high - low, 1e-12) / 1.349)


def bounded_exp(log_rate: Any) -> Any:
    """exp, going on as its second-order expansion from `LARGEST_LOG` on, so that it has a curvature everywhere."""
    inside, beyond = jnp.minimum(log_rate, LARGEST_LOG), jnp.maximum(log_rate - LARGEST_LOG, 0.0)
    return jnp.exp(inside) * (1 + beyond + beyond**2 / 2)


LARGEST_LOG = 30.0
