"""States and cells given all other cells of a row, in logarithms from the leaves to the answer.

A factor of node i is the message of a child or the density of a leaf; s_i(k) is the sum of their
logarithms. From the roots downward,

    o_c(k) = log sum_p T_c[p, k] exp(o_i(p) + factors of i without that of its child c)

is log p(z_c = k, cells that are not at or below c). Given the other cells of its row, a cell x_c on
node i has the density

    p(x_c | x_-c) = sum_k w(k) p(x_c | z_i = k, rest of its block),

where log w is o_i with the factors of i without x_c, up to a constant. Nothing is divided by what
may be too small for a number, as p(x_c | z_i = k) of a cell many standard deviations away is.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.circuits.layout import Layout, Steps
from inference.circuits.leaves import (
    Normals,
    Terms,
    Weights,
    block_terms,
    row_patterns,
    traced_patterns,
)
from inference.circuits.passes import largest, transitions
from inference.core.typing import AnyArray


class Factors(NamedTuple):
    """The logarithms of each node's factors: their sum, and how many are minus infinity.

    Attributes:
        finite: the sum of those that are finite, shape (nodes + 1, rows, K).
        zeros: the number of all others.
    """

    finite: jax.Array
    zeros: jax.Array

    def times(self, nodes: AnyArray, logs: jax.Array) -> Factors:
        """Return the factors with more of them, shape (len(nodes), rows, K)."""
        zero = jnp.isneginf(logs)
        finite = self.finite.at[nodes].add(jnp.where(zero, 0.0, logs))
        return Factors(finite, self.zeros.at[nodes].add(zero.astype(int)))

    def total(self) -> jax.Array:
        """Return s."""
        return jnp.where(self.zeros > 0, -jnp.inf, self.finite)

    def without(self, nodes: AnyArray, logs: jax.Array) -> jax.Array:
        """Return s of nodes without one factor each."""
        zero = jnp.isneginf(logs)
        left = self.finite[nodes] - jnp.where(zero, 0.0, logs)
        return jnp.where(self.zeros[nodes] - zero > 0, -jnp.inf, left)


class Leaves(NamedTuple):
    """The log densities of leaves, by kind.

    Attributes:
        levels: for each number of levels, shape (leaves, rows, K).
        terms: of the blocks of each size.
    """

    levels: tuple[jax.Array, ...]
    terms: tuple[Terms, ...]


def log_states(
    layout: Layout, weights: Weights, table: jax.Array
) -> tuple[jax.Array, Factors, Leaves]:
    """Return log p(z_i = k, cells not at or below i), the factors, and those of leaves.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows, NaN where cells are missing.

    Returns:
        Logarithms of shape (nodes, rows, K); with `factors.total()` they are log p(z_i = k, x).
    """
    leaves = _leaves(layout, weights, table)
    shape = (layout.nodes + 1, len(table), layout.states)
    factors = Factors(jnp.zeros(shape, table.dtype), jnp.zeros(shape, int))
    for levels, logs in zip(layout.kinds, leaves.levels, strict=True):
        factors = factors.times(layout.categories_of(levels)[1], logs)
    for size, terms in zip(layout.sizes, leaves.terms, strict=True):
        factors = factors.times(layout.blocks_of(size)[1], terms.log_density)
    outside = jnp.full(shape, -jnp.inf, table.dtype)
    outside = outside.at[layout.roots].set(jnp.asarray(weights.roots, table.dtype)[:, None])
    if not len(layout.edges):
        return outside[:-1], factors, leaves
    T, steps = transitions(weights.edges), jax.tree.map(jnp.asarray, layout.steps)

    def up(factors: Factors, at: Steps) -> tuple:
        known = (at.child < layout.nodes)[:, None, None]
        message = _log_product("wpk,wbk->wbp", T[at.edge], factors.total()[at.child])
        message = jnp.where(known, message, 0.0)
        return factors.times(at.parent, message), message

    factors, messages = jax.lax.scan(up, factors, steps)

    def down(outside: jax.Array, step: tuple) -> tuple:
        at, message = step
        above = outside[at.parent] + factors.without(at.parent, message)
        return outside.at[at.child].set(_log_product("wpk,wbp->wbk", T[at.edge], above)), None

    outside, _ = jax.lax.scan(down, outside, (steps, messages), reverse=True)
    return outside[:-1], factors, leaves


def _log_product(sum_over: str, T: jax.Array, logs: jax.Array) -> jax.Array:
    """Return the logarithm of a product of T with exp(logs), less their largest."""
    top = largest(logs)
    return jnp.log(jnp.einsum(sum_over, T, jnp.exp(logs - top))) + top


def _leaves(layout: Layout, weights: Weights, table: jax.Array) -> Leaves:
    """Return the log densities of leaves, zero where their cells are missing."""
    levels = []
    for number, log_probs in zip(layout.kinds, weights.levels, strict=True):
        cells = table[:, layout.categories_of(number)[0]].T
        codes = jnp.clip(jnp.nan_to_num(cells).astype(int), 0, number - 1)
        found = jnp.take_along_axis(jnp.asarray(log_probs).mT, codes[..., None], axis=1)
        levels.append(jnp.where(jnp.isnan(cells)[..., None], 0.0, found))
    patterns, terms = traced_patterns(layout, table), []
    for at, size in enumerate(layout.sizes):
        x = table[:, layout.blocks_of(size)[0]].transpose(1, 0, 2)
        terms.append(block_terms(weights.normals[at], x, patterns[at]))
    return Leaves(tuple(levels), tuple(terms))


def log_left_out(layout: Layout, weights: Weights, table: AnyArray) -> jax.Array:
    """Return log p(x_c | all other observed cells) of each cell, shape (rows, columns).

    It is NaN where the cell is missing.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows, NaN where cells are missing.
    """
    table = jnp.asarray(table)
    outside, factors, leaves = log_states(layout, weights, table)
    found = jnp.zeros(table.shape, table.dtype)
    for number, logs in zip(layout.kinds, leaves.levels, strict=True):
        columns, nodes = layout.categories_of(number)
        states = outside[nodes] + factors.without(nodes, logs)
        columns, values = _mixed(layout, columns, states, logs)
        found = found.at[:, columns].set(values.T)
    for at, size in enumerate(layout.sizes):
        columns, nodes = layout.blocks_of(size)
        whole, x = leaves.terms[at].log_density, table[:, columns].transpose(1, 0, 2)
        others = outside[nodes] + factors.without(nodes, whole)

        def of_place(
            place: jax.Array,
            x: jax.Array = x,
            normals: Normals = weights.normals[at],
            whole: jax.Array = whole,
            others: jax.Array = others,
        ) -> tuple[jax.Array, jax.Array]:
            rest = x.at[:, :, place].set(jnp.nan)
            left = block_terms(normals, rest, row_patterns(~jnp.isnan(rest))).log_density
            return others + left, whole - left

        states, cells = jax.lax.map(of_place, jnp.arange(size))
        for place in range(size):
            one, values = _mixed(layout, columns[:, place], states[place], cells[place])
            found = found.at[:, one].set(values.T)
    return jnp.where(jnp.isnan(table), jnp.nan, found)


def _mixed(
    layout: Layout, columns: np.ndarray, states: jax.Array, logs: jax.Array
) -> tuple[np.ndarray, jax.Array]:
    """Return columns, and the log densities of their cells mixed over states and trees.

    Args:
        layout: the circuit.
        columns: of the leaves, those of the first tree first.
        states: log weights, which need not sum to one, shape (leaves, rows, K).
        logs: log densities given the states, shape (leaves, rows, K).
    """
    trees = len(layout.roots)
    w, x = (part.reshape(trees, -1, *part.shape[1:]) for part in (states, logs))
    total = jax.nn.logsumexp(w, axis=(0, 3), keepdims=True)
    return columns[: len(columns) // trees], jax.nn.logsumexp(w - total + x, axis=(0, 3))
