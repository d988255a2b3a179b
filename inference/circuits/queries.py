"""Exact answers from one circuit: distributions of cells, and draws of them.

All answers come from the two passes. With r_i(k) = p(z_i = k | x), a missing category has the
distribution sum_k r_i(k) E[k, .], and a missing number is a mixture of conditional normals with
weights r_i(k). Observed cells given all others stand in `left_out.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.circuits.layout import Layout, Steps
from inference.circuits.leaves import (
    Normals,
    Patterns,
    Terms,
    Weights,
    block_terms,
    emissions,
    row_patterns,
    traced_patterns,
)
from inference.circuits.left_out import log_states
from inference.circuits.passes import upward
from inference.core.typing import AnyArray, Key


class Mixture(NamedTuple):
    """The distribution of one column in each row: a mixture over states.

    Attributes:
        logits: the log probabilities of the states, shape (rows, components), or of the levels of
            categories, shape (rows, levels), mixed already.
        mean: of numbers, shape (rows, components); None for categories.
        scale: of numbers, shape (rows, components); None for categories.
        freedom: the degrees of freedom of Student's t; None for normals and categories.
    """

    logits: jax.Array
    mean: jax.Array | None = None
    scale: jax.Array | None = None
    freedom: jax.Array | None = None


def column_distribution(layout: Layout, weights: Weights, table: AnyArray, column: int) -> Mixture:
    """Return the distribution of one column given the other observed cells of each row.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows, NaN where cells are missing; the column's own cells are not looked at.
        column: which column.
    """
    table = jnp.asarray(table).at[:, column].set(jnp.nan)
    outside, inside, _ = log_states(layout, weights, table)
    log_r = outside + inside.total()[:-1]
    for levels, log_probs in zip(layout.kinds, weights.levels, strict=True):
        columns, nodes = layout.categories_of(levels)
        leaves = np.flatnonzero(columns == column)
        if leaves.size:
            joint = log_r[nodes[leaves]][..., None] + jnp.asarray(log_probs)[leaves][:, None]
            return Mixture(jax.nn.log_softmax(jax.nn.logsumexp(joint, axis=(0, 2)), -1))
    for size, normals in zip(layout.sizes, weights.normals, strict=True):
        columns, nodes = layout.blocks_of(size)
        leaves = np.flatnonzero((columns == column).any(-1))
        if leaves.size:
            place = int(np.flatnonzero(columns[leaves[0]] == column)[0])
            some = jax.tree.map(lambda leaf, at=leaves: leaf[at], normals)
            x = table[:, columns[leaves]].transpose(1, 0, 2)
            mean, scale, freedom = conditional_normal(some, x, place)
            return Mixture(
                jax.nn.log_softmax(_by_row(log_r[nodes[leaves]]), -1), mean, scale, freedom
            )
    raise ValueError(f"The circuit has no column {column}.")


def expected_cells(layout: Layout, weights: Weights, table: AnyArray) -> jax.Array:
    """Return rows whose missing numbers are their mean, and categories the most probable one.

    Each is that of the cell by itself given the observed cells of its row.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows, NaN where cells are missing.
    """
    table, trees = jnp.asarray(table), len(layout.roots)
    outside, inside, leaves = log_states(layout, weights, table)
    log_r, found = outside + inside.total()[:-1], table
    for levels, log_probs in zip(layout.kinds, weights.levels, strict=True):
        columns, nodes = layout.categories_of(levels)
        joint = log_r[nodes][..., None] + jnp.asarray(log_probs)[:, None]
        joint = joint.reshape(trees, -1, *joint.shape[1:])
        best = jax.nn.logsumexp(joint, axis=(0, 3)).argmax(-1).astype(table.dtype)
        found = found.at[:, columns[: len(best)]].set(best.T)
    for at, size in enumerate(layout.sizes):
        columns, nodes = layout.blocks_of(size)
        normals, states = weights.normals[at], log_r[nodes].reshape(trees, -1, *log_r.shape[1:])
        r = jax.nn.softmax(states.transpose(1, 2, 0, 3).reshape(*states.shape[1:3], -1), -1)
        matrix = jnp.asarray(normals.matrix)
        mean = jnp.asarray(normals.mean)[:, None]
        mean = mean + jnp.einsum("nkij,nbkj->nbki", matrix, leaves.terms[at].solved)
        mean = mean.reshape(trees, -1, *mean.shape[1:])
        shares = r.reshape(*r.shape[:2], trees, -1)
        values = jnp.einsum("nbtk,tnbki->nbi", shares, mean)
        for place in range(size):
            found = found.at[:, columns[: len(values), place]].set(values[..., place].T)
    return jnp.where(jnp.isnan(table), found, table)


def conditional_normal(normals: Normals, x: jax.Array, place: int) -> tuple:
    """Return mean, scale and degrees of freedom of one cell given the observed ones of its block.

    Args:
        normals: the blocks, one for each tree.
        x: their cells, NaN where they are missing, shape (trees, rows, d).
        place: which cell; its own values are not looked at.

    Returns:
        Arrays of shape (rows, trees * K); None for the degrees of freedom of normals.
    """
    x = x.at[:, :, place].set(jnp.nan)
    patterns = row_patterns(~jnp.isnan(x))
    terms = block_terms(normals, x, patterns)
    matrix = jnp.asarray(normals.matrix)
    mean = jnp.asarray(normals.mean)[:, None, :, place]
    mean = mean + jnp.einsum("nkj,nbkj->nbk", matrix[:, :, place], terms.solved)
    cross = matrix[:, :, place]
    explained = jnp.einsum("nki,nukij,nkj->nuk", cross, terms.precision, cross)
    left = jnp.maximum(matrix[:, None, :, place, place] - explained, 1e-300)
    variance = left[np.arange(len(x))[:, None], patterns.rows]
    freedom = None
    if normals.freedom is not None:
        v = jnp.asarray(normals.freedom)[:, None]
        seen = (~jnp.isnan(x)).sum(-1)[..., None]
        variance = variance * (v + terms.distance) / (v + seen)
        freedom = _by_row(jnp.broadcast_to(v + seen, variance.shape))
    return _by_row(mean), _by_row(jnp.sqrt(variance)), freedom


def _by_row(values: jax.Array) -> jax.Array:
    """Return values of (trees, rows, K) as (rows, trees * K)."""
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


def draw_missing(layout: Layout, weights: Weights, table: AnyArray, key: Key) -> jax.Array:
    """Draw all missing cells of each row together, given its observed ones.

    Args:
        layout: the circuit.
        weights: its numbers, with normal blocks.
        table: the rows, NaN where cells are missing.
        key: the key of the draws.
    """
    table = jnp.asarray(table)
    patterns = traced_patterns(layout, table)
    e, terms = emissions(layout, weights, table, patterns)
    # one array of each kind of noise: random numbers are what compiles slowest
    for_choices, for_numbers = jax.random.split(key)
    trees, leaves = len(layout.roots), len(layout.categories)
    shape = (1 + layout.nodes + leaves, len(table))
    uniform = jax.random.uniform(for_choices, shape, table.dtype)
    widths = [np.prod(layout.blocks_of(size)[0].shape) for size in layout.sizes]
    noise = jax.random.normal(for_numbers, (int(sum(widths)), len(table)), table.dtype)
    states, tree = _draw_states(layout, weights, e, uniform[: 1 + layout.nodes])
    filled, used = table, 1 + layout.nodes
    for levels, log_probs in zip(layout.kinds, weights.levels, strict=True):
        columns, nodes = layout.categories_of(levels)
        logits = jnp.take_along_axis(jnp.asarray(log_probs), states[nodes][..., None], axis=1)
        drawn = _choose(logits, uniform[used : used + len(nodes)]).astype(table.dtype)
        filled = _fill(filled, columns[:, None], drawn[..., None], tree, trees)
        used += len(nodes)
    used = 0
    for at, size in enumerate(layout.sizes):
        columns, nodes = layout.blocks_of(size)
        some = noise[used : used + columns.size].reshape(*columns.shape, -1).transpose(0, 2, 1)
        drawn = _draw_block(weights.normals[at], terms[at], patterns[at], states[nodes], some)
        filled = _fill(filled, columns, drawn, tree, trees)
        used += columns.size
    return filled


def _choose(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """Return categories drawn by one uniform number each, which the cumulated shares pass.

    Args:
        logits: log probabilities that need not sum to one, shape (..., levels).
        uniform: shape (...).
    """
    shares = jnp.cumsum(jax.nn.softmax(logits, -1), -1)
    return (uniform[..., None] > shares[..., :-1]).sum(-1)


def _draw_states(
    layout: Layout, weights: Weights, e: jax.Array, uniform: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw the state of each node, shape (nodes, rows), and which tree holds, shape (rows,)."""
    s, _ = upward(layout, jnp.asarray(weights.edges), e)
    tops = s[layout.roots] + jnp.asarray(weights.roots)[:, None]
    tree = _choose(jax.nn.logsumexp(tops, -1).T, uniform[0])
    of_nodes = jnp.concatenate([uniform[1:], uniform[:1]])
    at_roots = _choose(tops, of_nodes[layout.roots])
    z = jnp.zeros(s.shape[:2], at_roots.dtype).at[layout.roots].set(at_roots)
    if len(layout.edges):
        steps = jax.tree.map(jnp.asarray, layout.steps)

        def step(z: jax.Array, place: Steps) -> tuple:
            log_edges = jnp.asarray(weights.edges)[place.edge]
            rows = jnp.take_along_axis(log_edges, z[place.parent][..., None], axis=1)
            drawn = _choose(rows + s[place.child], of_nodes[place.child])
            return z.at[place.child].set(drawn), None

        z, _ = jax.lax.scan(step, z, steps, reverse=True)
    return z[:-1], tree


def _draw_block(
    normals: Normals, terms: Terms, patterns: Patterns, states: jax.Array, noise: jax.Array
) -> jax.Array:
    """Draw the cells of blocks given states and observed cells, shape (blocks, rows, d)."""
    matrix = jnp.asarray(normals.matrix)
    blocks, rows = states.shape
    one, row = np.arange(blocks)[:, None], np.arange(rows)
    mean = jnp.asarray(normals.mean)[one, states]
    chosen = matrix[one, states]
    solved = terms.solved[one, row, states]
    mean = mean + jnp.einsum("nbij,nbj->nbi", chosen, solved)
    precision = terms.precision[one, patterns.rows, states]
    left = chosen - chosen @ precision @ chosen
    size = matrix.shape[-1]
    missing = ~jnp.asarray(patterns.masks)[one, patterns.rows]
    both = missing[..., :, None] & missing[..., None, :]
    factor = jnp.linalg.cholesky(jnp.where(both, left, jnp.eye(size)))
    return mean + jnp.einsum("nbij,nbj->nbi", factor, jnp.where(missing, noise, 0.0))


def _fill(
    table: jax.Array, columns: np.ndarray, drawn: jax.Array, tree: jax.Array, trees: int
) -> jax.Array:
    """Return the table with missing cells as the tree of each row drew them.

    Leaves come in the order of trees, those of one tree in the order of its columns.
    """
    leaves = len(columns) // trees
    by_tree = drawn.reshape(trees, leaves, *drawn.shape[1:])
    chosen = jnp.take_along_axis(by_tree, tree[None, None, :, None], axis=0)[0]
    for leaf in range(leaves):
        cells = table[:, columns[leaf]]
        table = table.at[:, columns[leaf]].set(jnp.where(jnp.isnan(cells), chosen[leaf], cells))
    return table
