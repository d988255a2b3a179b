"""The leaves of a circuit: log densities of observed cells given the state of their node.

A category has log p(x | k) = log E[k, x], and zero where x is missing. A block of numbers is
normal, or Student's t, with mean mu_k and matrix S_k. Of its observed cells o it has

    log N(x_o | mu_o, S_oo),

as margins of a normal are normal: a missing cell leaves rows and columns out. Rows that lack the
same cells share a Cholesky factor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from inference.circuits.layout import Layout
from inference.circuits.passes import forest_log_density
from inference.core.typing import AnyArray

# blocks of so many columns list all patterns of missing cells
FEW = 3


class Normals(NamedTuple):
    """The blocks of one size d.

    Attributes:
        mean: shape (blocks, K, d).
        matrix: the covariance, of Student's t its scale matrix, shape (blocks, K, d, d).
        freedom: the degrees of freedom of Student's t, shape (blocks, K); None for normals.
        constant: what is added to the log density of rows with any observed cell, shape
            (blocks, K); None for nothing.
    """

    mean: AnyArray
    matrix: AnyArray
    freedom: AnyArray | None = None
    constant: AnyArray | None = None


class Weights(NamedTuple):
    """The numbers of a circuit; logarithms of probabilities, which need not sum to one.

    Attributes:
        roots: of tree and state of its root, shape (trees, K).
        edges: of the child's state given the parent's, shape (edges, K, K).
        levels: of categories, for each number L of levels an array of shape (leaves, K, L).
        normals: the blocks of each size.
    """

    roots: AnyArray
    edges: AnyArray
    levels: tuple[AnyArray, ...]
    normals: tuple[Normals, ...]


class Patterns(NamedTuple):
    """Which cells of a block rows have.

    Attributes:
        masks: the patterns, shape (blocks, patterns, d).
        rows: the number of each row's pattern, shape (blocks, rows).
    """

    masks: AnyArray
    rows: AnyArray


class Terms(NamedTuple):
    """What the log densities of blocks are made of.

    Attributes:
        log_density: shape (blocks, rows, K).
        solved: S_oo^-1 (x_o - mu_o), zero for missing cells, shape (blocks, rows, K, d).
        precision: S_oo^-1 of each pattern, zero elsewhere, shape (blocks, patterns, K, d, d).
        distance: the Mahalanobis distance squared of observed cells, shape (blocks, rows, K).
    """

    log_density: jax.Array
    solved: jax.Array
    precision: jax.Array
    distance: jax.Array


def find_patterns(layout: Layout, table: np.ndarray) -> tuple[Patterns, ...]:
    """Return the patterns of missing cells in a table, for the blocks of each size."""
    found = []
    for size in layout.sizes:
        columns, _ = layout.blocks_of(size)
        seen = ~np.isnan(table[:, columns]).transpose(1, 0, 2)
        each = [np.unique(one, axis=0, return_inverse=True) for one in seen]
        most = max(len(masks) for masks, _ in each)
        masks = np.stack([masks[np.minimum(np.arange(most), len(masks) - 1)] for masks, _ in each])
        rows = np.stack([numbers.reshape(-1) for _, numbers in each]).astype(np.int32)
        found.append(Patterns(masks, rows))
    return tuple(found)


def row_patterns(seen: jax.Array) -> Patterns:
    """Return patterns of rows that are traced: all there may be, or one for each row.

    Args:
        seen: which cells are observed, shape (blocks, rows, d).
    """
    blocks, rows, size = seen.shape
    if size > FEW:
        return Patterns(seen, jnp.broadcast_to(jnp.arange(rows), (blocks, rows)))
    masks = (np.arange(2**size)[:, None] >> np.arange(size)) & 1 == 1
    numbers = (seen * (2 ** np.arange(size))[None, None]).sum(-1)
    return Patterns(jnp.broadcast_to(masks, (blocks, *masks.shape)), numbers)


def traced_patterns(layout: Layout, table: AnyArray) -> tuple[Patterns, ...]:
    """Return `row_patterns` for the blocks of each size."""
    found = []
    for size in layout.sizes:
        columns, _ = layout.blocks_of(size)
        found.append(row_patterns(~jnp.isnan(jnp.asarray(table)[:, columns].transpose(1, 0, 2))))
    return tuple(found)


def block_terms(normals: Normals, x: jax.Array, patterns: Patterns) -> Terms:
    """Return the log densities of blocks, and what learning needs besides.

    Args:
        normals: the blocks of one size.
        x: their cells, NaN where they are missing, shape (blocks, rows, d).
        patterns: the patterns of missing cells.
    """
    size = x.shape[-1]
    masks = jnp.asarray(patterns.masks)
    both = (masks[..., :, None] & masks[..., None, :])[:, :, None]
    matrix = jnp.asarray(normals.matrix)[:, None]
    factor = jnp.linalg.cholesky(jnp.where(both, matrix, jnp.eye(size)))
    log_det = 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    eye = jnp.broadcast_to(jnp.eye(size), factor.shape)
    half = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    precision = jnp.where(both, half.mT @ half, 0.0)
    seen = ~jnp.isnan(x)
    delta = jnp.where(seen[:, :, None], x[:, :, None] - normals.mean[:, None], 0.0)
    if masks.shape[1] == 1:
        solved = jnp.einsum("nbki,nkij->nbkj", delta, precision[:, 0])
        log_dets = log_det
    else:
        blocks = np.arange(len(x))[:, None]
        solved = jnp.einsum("nbki,nbkij->nbkj", delta, precision[blocks, patterns.rows])
        log_dets = log_det[blocks, patterns.rows]
    distance = (delta * solved).sum(-1)
    values = _log_density(distance, log_dets, seen.sum(-1)[..., None], normals.freedom)
    if normals.constant is not None:
        values = values + normals.constant[:, None]
    values = jnp.where(seen.any(-1)[..., None], values, 0.0)
    return Terms(values, solved, precision, distance)


def _log_density(
    distance: jax.Array, log_det: jax.Array, size: jax.Array, freedom: AnyArray | None
) -> jax.Array:
    """Return the log density of a normal or Student's t from its Mahalanobis distance squared."""
    if freedom is None:
        return -0.5 * (distance + log_det + size * math.log(2 * math.pi))
    v = jnp.asarray(freedom)[:, None]
    scale = gammaln((v + size) / 2) - gammaln(v / 2) - 0.5 * size * jnp.log(v * math.pi)
    return scale - 0.5 * log_det - 0.5 * (v + size) * jnp.log1p(distance / v)


def one_hot(codes: jax.Array, levels: int, dtype: np.dtype) -> jax.Array:
    """Return categories as zeros and ones, all zero where they are missing (NaN)."""
    return (codes[..., None] == jnp.arange(levels)[None, None]).astype(dtype)


def emissions(
    layout: Layout, weights: Weights, table: AnyArray, patterns: tuple[Patterns, ...]
) -> tuple[jax.Array, tuple[Terms, ...]]:
    """Return the log densities of leaves by node, shape (nodes, rows, K), and the blocks' terms.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: cells as numbers, categories as their index, NaN where they are missing, shape
            (rows, columns).
        patterns: the patterns of missing cells of the blocks of each size.
    """
    dtype = jnp.result_type(weights.roots)
    table = jnp.asarray(table)
    e = jnp.zeros((layout.nodes, len(table), layout.states), dtype)
    for levels, log_probs in zip(layout.kinds, weights.levels, strict=True):
        columns, nodes = layout.categories_of(levels)
        coded = one_hot(table[:, columns].T, levels, dtype)
        e = e.at[nodes].add(jnp.einsum("nbl,nkl->nbk", coded, log_probs))
    terms = []
    for at, (size, normals) in enumerate(zip(layout.sizes, weights.normals, strict=True)):
        columns, nodes = layout.blocks_of(size)
        x = table[:, columns].transpose(1, 0, 2)
        found = block_terms(normals, x, patterns[at])
        e = e.at[nodes].add(found.log_density.astype(dtype))
        terms.append(found)
    return e, tuple(terms)


def log_density(
    layout: Layout,
    weights: Weights,
    table: AnyArray,
    patterns: tuple[Patterns, ...] | None = None,
) -> jax.Array:
    """Return log p(observed cells) of each row, shape (rows,).

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows, NaN where cells are missing.
        patterns: the patterns of missing cells, where they are known.
    """
    known = traced_patterns(layout, table) if patterns is None else patterns
    e, _ = emissions(layout, weights, table, known)
    return forest_log_density(layout, weights.roots, weights.edges, e)
