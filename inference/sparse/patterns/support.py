"""Supports of the tiles of a store under a prior of bursts: its log density, and who is in the support.

A tile is in the support or not, as a whole; its weights have precisions of their own. Tiles that are not active say nothing of
their neighbours, so the chain steps over them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from inference.distributions.bursts import Bursts, Messages, log_total, messages, normalized
from inference.sparse.patterns.pattern import Pattern


class Evidence(NamedTuple):
    """What the weights of a layer say of its supports.

    Attributes:
        law: the prior.
        numbers: of what has a support, sorted, in a matrix of so many `columns`.
        columns: of that matrix.
        log: log p(w | s), shape (n, 2).
    """

    law: Bursts
    numbers: Any
    columns: int
    log: Any

    @property
    def decays(self) -> Any:
        return self.law.chain.decays(self.numbers, self.columns)

    @property
    def messages(self) -> Messages:
        return messages(self.law.chain, self.decays, self.log)


def evidence(
    law: Bursts, scale: Any, pattern: Pattern, index: Any, second: Any, inside: Any
) -> Evidence:
    """The evidence of a store.

    Args:
        law: of w / scale.
        scale: of the weights.
        pattern: of the store.
        index: its active tiles.
        second: w^2, or its mean.
        inside: which entries lie in the matrix.
    """
    each = jnp.where(inside[..., None], law.evidence(second / scale**2), 0.0)
    if pattern.is_dense:  # then each weight has a support
        return Evidence(law, jnp.arange(second.size), pattern.shape[1], each.reshape(-1, 2))
    return Evidence(law, pattern.numbers(index), pattern.grid[1], each.sum((2, 3)).reshape(-1, 2))


def log_prior(
    law: Bursts, scale: Any, pattern: Pattern, index: Any, second: Any, inside: Any
) -> Any:
    """Log p(w) of a store, or with second moments its best bound on E_q[log p(w)]; arguments as of `evidence`."""
    found = evidence(law, scale, pattern, index, second, inside)
    return log_total(law.chain, found.decays, found.log) - (inside * jnp.log(scale)).sum()


def log_odds(found: Evidence, pattern: Pattern) -> Any:
    """Log q(s = 1) / q(s = 0) of each tile, shape (G, k)."""
    forward, after = found.messages
    tiny = jnp.finfo(forward.dtype).tiny
    both = jnp.log(jnp.maximum(forward, tiny)) + jnp.log(jnp.maximum(after, tiny))
    return (both[:, 1] - both[:, 0]).reshape(pattern.index_shape)


def prospects(found: Evidence) -> Any:
    """A function from sorted numbers of tiles to the probability that they are in the support, given the active ones."""
    chain, known = found.law.chain, found.messages
    backward = jnp.exp(found.log - found.log.max(1, keepdims=True)) * known.after
    last = len(found.numbers) - 1

    def probability(numbers: Any) -> Any:
        right = jnp.searchsorted(found.numbers, numbers)
        left, after = jnp.maximum(right - 1, 0), jnp.minimum(right, last)
        into = chain.decay ** (numbers - found.numbers[left])
        into = jnp.where((right > 0) & same(found.numbers[left], numbers), into, 0.0)
        out = chain.decay ** (found.numbers[after] - numbers)
        out = jnp.where((right <= last) & same(found.numbers[after], numbers), out, 0.0)
        prior = (known.forward[left][:, :, None] * chain.transitions(into)).sum(1)
        likelihood = (chain.transitions(out) * backward[after][:, None, :]).sum(2)
        return normalized(prior * likelihood)[:, 1]

    def same(a: Any, b: Any) -> Any:
        return a // found.columns == b // found.columns

    return probability
