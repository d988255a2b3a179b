"""Supports of the tiles of a store under a prior of bursts: log density and log odds.

A tile is in the support or not, as a whole; its weights have precisions of their own. Tiles that
are not active say nothing about their neighbours, so the chain steps over them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inference.core.typing import AnyArray
from inference.distributions.bursts import (
    Bursts,
    Messages,
    forward_backward,
    log_marginal,
    normalize,
)
from inference.sparse.patterns.pattern import Pattern


class SupportEvidence(NamedTuple):
    """What the weights of a layer say about its supports.

    Attributes:
        prior: the prior of bursts.
        numbers: the sorted numbers, in a matrix of `columns` columns, of what has a support.
        columns: the number of columns of that matrix.
        log_likelihood: log p(w | s) for s = 0 and 1, shape (n, 2).
    """

    prior: Bursts
    numbers: AnyArray
    columns: int
    log_likelihood: jax.Array

    @property
    def decays(self) -> jax.Array:
        """The decay of the chain before each number."""
        return self.prior.chain.decays(self.numbers, self.columns)

    @property
    def messages(self) -> Messages:
        """The messages of the chain from both sides."""
        return forward_backward(self.prior.chain, self.decays, self.log_likelihood)


def support_evidence(
    prior: Bursts,
    scale: AnyArray | float,
    pattern: Pattern,
    index: AnyArray,
    second: AnyArray,
    inside: AnyArray,
) -> SupportEvidence:
    """Return the evidence of a store.

    Args:
        prior: the prior of w / scale.
        scale: the scale of the weights.
        pattern: the pattern of the store.
        index: the numbers of its active tiles, shape (G, k).
        second: w^2, or its mean, shape (G, k, a, b).
        inside: which entries lie in the matrix, shape (G, k, a, b).
    """
    each = jnp.where(inside[..., None], prior.evidence(second / scale**2), 0.0)
    # in a dense layer each weight has a support
    if pattern.is_dense:
        numbers = jnp.arange(second.size)
        return SupportEvidence(prior, numbers, pattern.shape[1], each.reshape(-1, 2))
    numbers, totals = pattern.tile_numbers(index), each.sum((2, 3)).reshape(-1, 2)
    return SupportEvidence(prior, numbers, pattern.grid[1], totals)


def log_prior(
    prior: Bursts,
    scale: AnyArray | float,
    pattern: Pattern,
    index: AnyArray,
    second: AnyArray,
    inside: AnyArray,
) -> jax.Array:
    """Return log p(w) of a store, or with second moments its best bound on E_q[log p(w)].

    The arguments are those of `support_evidence`.
    """
    found = support_evidence(prior, scale, pattern, index, second, inside)
    total = log_marginal(prior.chain, found.decays, found.log_likelihood)
    return total - (inside * jnp.log(scale)).sum()


def log_odds(found: SupportEvidence, pattern: Pattern) -> jax.Array:
    """Return log q(s = 1) / q(s = 0) of each tile, shape (G, k)."""
    forward, after = found.messages
    tiny = jnp.finfo(forward.dtype).tiny
    both = jnp.log(jnp.maximum(forward, tiny)) + jnp.log(jnp.maximum(after, tiny))
    return (both[:, 1] - both[:, 0]).reshape(pattern.index_shape)


def inclusion_probability(found: SupportEvidence) -> Callable[[jax.Array], jax.Array]:
    """Return a function from sorted numbers of tiles to their probability to be in the support.

    The probability is that given the active tiles.
    """
    chain, known = found.prior.chain, found.messages
    top = found.log_likelihood.max(1, keepdims=True)
    backward = jnp.exp(found.log_likelihood - top) * known.after
    last = len(found.numbers) - 1

    def probability(numbers: jax.Array) -> jax.Array:
        right = jnp.searchsorted(found.numbers, numbers)
        left, after = jnp.maximum(right - 1, 0), jnp.minimum(right, last)
        into = chain.decay ** (numbers - found.numbers[left])
        into = jnp.where((right > 0) & in_same_row(found.numbers[left], numbers), into, 0.0)
        out = chain.decay ** (found.numbers[after] - numbers)
        out = jnp.where((right <= last) & in_same_row(found.numbers[after], numbers), out, 0.0)
        prior = (known.forward[left][:, :, None] * chain.transition_matrices(into)).sum(1)
        likelihood = (chain.transition_matrices(out) * backward[after][:, None, :]).sum(2)
        return normalize(prior * likelihood)[:, 1]

    def in_same_row(a: jax.Array, b: jax.Array) -> jax.Array:
        return a // found.columns == b // found.columns

    return probability
