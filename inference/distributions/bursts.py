"""Matrices of weights of which few are large, and those side by side: a prior of three layers.

    s_i in {0, 1}                   the support: for each row a stationary Markov chain along its
                                    entries, with P(s_i = 1) = share and bursts of ones of mean
                                    length `length`
    r_i | s_i ~ Gamma(df/2, df/2)   precisions in units of 1 / slab^2 for s_i = 1 and of
                                    1 / spike^2 for s_i = 0
    w_i | r_i, s_i ~ N(0, slab^2 / r_i) or N(0, spike^2 / r_i)

Over g entries the chain forgets with decay^g, decay = 1 - 1 / (length (1 - share)). Precisions and
supports are summed out exactly: w_i | s_i has Student's t distribution, and the sum over all
supports is a product of 2 x 2 matrices, T_i diag(p(w_i | s_i)), which is taken in a tree. If a
normal q(w) is given instead of w, the best q(r, s) for it gives the same formulas with E[w_i^2] in
the place of w_i^2. Reference: Xia, Tsang and Lau (2023), Turbo-VBI, arXiv:2302.10483, who iterate
between w, r and s instead.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, constraints
from numpyro.util import is_prng_key

from inference.core.typing import AnyArray


class SupportChain(NamedTuple):
    """The Markov chain of supports along a row.

    Attributes:
        share: the long-run share of ones.
        decay: the correlation of a state with the next one.
    """

    share: float
    decay: float

    def transition_matrices(self, decays: jax.Array) -> jax.Array:
        """Return T of each step given decay^steps, shape (n, 2, 2)."""
        stationary = jnp.broadcast_to(jnp.asarray([1 - self.share, self.share]), (2, 2))
        return stationary[None] + decays[:, None, None] * (jnp.eye(2) - stationary)[None]

    def decays(self, numbers: AnyArray, columns: int) -> jax.Array:
        """Return decay^steps before each entry; it is 0 where a row begins.

        Args:
            numbers: the sorted flat indices of the entries in a matrix, shape (n,).
            columns: the number of columns of that matrix.
        """
        before = jnp.concatenate([jnp.full(1, -1, numbers.dtype), numbers[:-1]])
        same_row = (numbers // columns == before // columns) & (before >= 0)
        return jnp.where(same_row, jnp.asarray(self.decay) ** (numbers - before), 0.0)


class Messages(NamedTuple):
    """The messages about supports along a row.

    Attributes:
        forward: p(s_i | evidence up to i), shape (n, 2).
        after: the likelihood of s_i given the evidence after i, shape (n, 2), up to a factor.
    """

    forward: Any
    after: Any


def forward_backward(chain: SupportChain, decays: jax.Array, evidence: jax.Array) -> Messages:
    """Compute the messages from both sides.

    Args:
        chain: the chain of supports.
        decays: decay^steps before each entry, shape (n,).
        evidence: log likelihoods of s_i = 0 and 1, shape (n, 2).
    """
    top = evidence.max(1, keepdims=True)
    likelihood = jnp.exp(evidence - top)
    factors = chain.transition_matrices(decays) * likelihood[:, None, :]
    prefix = jax.lax.associative_scan(lambda a, b: _multiply_scaled(a, b)[0], factors)
    # The rows of the first factor are equal, since a row of the matrix begins there.
    forward = prefix[:, 0, :]
    suffix = jax.lax.associative_scan(lambda a, b: _multiply_scaled(b, a)[0], factors, reverse=True)
    after = jnp.concatenate([suffix[1:].sum(2), jnp.ones((1, 2))])
    return Messages(normalize(forward), normalize(after))


def log_marginal(chain: SupportChain, decays: jax.Array, evidence: jax.Array) -> jax.Array:
    """Return log sum_s p(s) exp(sum_i evidence_i(s_i)), computed in a tree of products."""
    top = evidence.max(1, keepdims=True)
    factors = chain.transition_matrices(decays) * jnp.exp(evidence - top)[:, None, :]
    total = top.sum()
    while len(factors) > 1:
        odd = jnp.broadcast_to(jnp.eye(2), (len(factors) % 2, 2, 2))
        factors = jnp.concatenate([factors, odd])
        factors, scales = _multiply_scaled(factors[::2], factors[1::2])
        total = total + scales.sum()
    return total + jnp.log(factors[0, 0].sum())


def _multiply_scaled(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return products of matrices, divided by their largest entries, and the logs of these."""
    product = (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
    size = product.max((-2, -1))
    return product / size[..., None, None], jnp.log(size)


def normalize(vectors: jax.Array) -> jax.Array:
    """Return vectors divided by their sums."""
    return vectors / vectors.sum(-1, keepdims=True)


class Bursts(Distribution):
    """A matrix of weights with supports in bursts along its rows, as the module defines it.

    Args:
        slab: the scale of large weights.
        spike: the scale of the other weights.
        share: the share of large weights, in the long run.
        length: the mean length of a burst, in entries. The least value, 1 / (1 - share), makes the
            entries independent.
        df: the degrees of freedom of Student's t distribution, above 2.
        shape: the shape of the array; rows are along its first axis.

    Example:
        >>> bursts = Bursts(1.0, 0.05, 0.2, 4.0, 4.0, (2, 3))
        >>> bursts.log_prob(jnp.zeros((2, 3))).shape
        ()
    """

    arg_constraints: ClassVar[dict] = {}
    pytree_aux_fields = ("slab", "spike", "share", "length", "df")

    def __init__(
        self,
        slab: float,
        spike: float,
        share: float,
        length: float,
        df: float,
        shape: tuple[int, ...],
    ) -> None:
        self.slab, self.spike, self.share, self.length, self.df = slab, spike, share, length, df
        super().__init__(batch_shape=(), event_shape=tuple(shape))

    @property
    def support(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The real arrays of the distribution's shape."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def chain(self) -> SupportChain:
        """The Markov chain of supports."""
        return SupportChain(self.share, max(0.0, 1 - 1 / (self.length * (1 - self.share))))

    @property
    def columns(self) -> int:
        """The number of entries of a row."""
        return math.prod(self.event_shape[1:])

    def evidence(self, second: AnyArray) -> jax.Array:
        """Return log p(w | s) for s = 0 and 1, shape (..., 2), given w^2 or its mean."""
        scale = jnp.asarray([self.spike, self.slab]).reshape(*[1] * jnp.ndim(second), 2)
        half = (self.df + 1) / 2
        constant = gammaln(half) - gammaln(self.df / 2) - 0.5 * jnp.log(self.df * jnp.pi)
        return (
            constant - jnp.log(scale) - half * jnp.log1p(second[..., None] / (self.df * scale**2))
        )

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> jax.Array:
        """Return the log density, with supports and precisions summed out."""
        flat = jnp.reshape(value, (-1, math.prod(self.event_shape)))
        decays = self.chain.decays(jnp.arange(flat.shape[1]), self.columns)
        found = jax.vmap(lambda w: log_marginal(self.chain, decays, self.evidence(w * w)))(flat)
        return found.reshape(jnp.shape(value)[: jnp.ndim(value) - len(self.event_shape)])

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw supports along each row, then the weights given them."""
        assert is_prng_key(key)
        support_key, weights_key = jax.random.split(key)
        rows = (math.prod(sample_shape) * self.event_shape[0], self.columns)
        uniform = jax.random.uniform(support_key, rows[::-1])
        share, decay = self.chain

        def step(state: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
            new = jnp.where(u < share + decay * (state - share), 1.0, 0.0)
            return new, new

        first = jnp.where(uniform[0] < share, 1.0, 0.0)
        _, later = jax.lax.scan(step, first, uniform[1:])
        states = jnp.concatenate([first[None], later]).T
        weights = jnp.where(states > 0, self.slab, self.spike) * jax.random.t(
            weights_key, self.df, rows
        )
        return weights.reshape(*sample_shape, *self.event_shape)

    @property
    def mean(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The mean, zero."""
        return jnp.zeros(self.event_shape)

    @property
    def variance(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The variance of each weight."""
        each = self.share * self.slab**2 + (1 - self.share) * self.spike**2
        return jnp.full(self.event_shape, each * self.df / (self.df - 2))
