"""What a circuit says of all missing cells of a table at once: their mixtures, by one pass.

A missing number of block i is the mixture over states, with weights r_i(k) = p(z_i = k | x), of its
conditional distributions given the observed cells of its block; a missing category has the
probabilities sum_k r_i(k) E[k, .].
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc, gammaln, ndtr

from inference.circuits.layout import Layout
from inference.circuits.leaves import Weights, emissions, traced_patterns
from inference.circuits.queries import state_probabilities
from inference.core.typing import AnyArray


class Cells(NamedTuple):
    """Statistics of the missing cells of a table; zero where cells are known.

    Attributes:
        mean: of numbers the mean, of categories the most probable one, shape (rows, columns).
        variance: of numbers the variance, of categories 1 - p(the most probable one).
        log_density: the log density or log probability of a value, shape (rows, columns).
        below: the probability of smaller numbers than the value; 0 for categories.
    """

    mean: jax.Array
    variance: jax.Array
    log_density: jax.Array
    below: jax.Array


def missing_cells(layout: Layout, weights: Weights, table: AnyArray, values: AnyArray) -> Cells:
    """Return what the observed cells of each row say of each of its missing cells.

    Args:
        layout: the circuit.
        weights: its numbers.
        table: the rows, NaN where cells are missing.
        values: the values whose density is asked for, NaN where there is none.
    """
    table, values = jnp.asarray(table), jnp.asarray(values)
    e, terms = emissions(layout, weights, table, traced_patterns(layout, table))
    r, _ = state_probabilities(layout, weights, e)
    patterns = traced_patterns(layout, table)
    mean, square, density, below = (jnp.zeros(table.shape) for _ in range(4))
    for levels, log_probs in zip(layout.kinds, weights.levels, strict=True):
        columns, nodes = layout.categories_of(levels)
        probs = jnp.zeros((len(table), table.shape[1], levels))
        inside = jnp.einsum("nbk,nkl->bnl", r[nodes], jnp.exp(jnp.asarray(log_probs)))
        probs = probs.at[:, columns].add(inside)
        some = np.unique(columns)
        codes = jnp.clip(jnp.nan_to_num(values[:, some]), 0, levels - 1).astype(int)
        chosen = jnp.take_along_axis(probs[:, some], codes[..., None], -1)[..., 0]
        density = density.at[:, some].set(chosen)
        mean = mean.at[:, some].set(probs[:, some].argmax(-1).astype(mean.dtype))
        square = square.at[:, some].set(mean[:, some] ** 2 + 1 - probs[:, some].max(-1))
    for at, size in enumerate(layout.sizes):
        columns, nodes = layout.blocks_of(size)
        normals, found = weights.normals[at], terms[at]
        matrix = jnp.asarray(normals.matrix)
        centre = normals.mean[:, None] + jnp.einsum("nkij,nbkj->nbki", matrix, found.solved)
        left = jnp.diagonal(matrix[:, None], axis1=-2, axis2=-1) - jnp.einsum(
            "nkij,nukjl,nkli->nuki", matrix, found.precision, matrix
        )
        which = np.arange(len(columns))[:, None]
        variance = jnp.maximum(left, 1e-300)[which, patterns[at].rows]
        x = values[:, columns].transpose(1, 0, 2)[:, :, None]
        if normals.freedom is None:
            spread = variance
            z = (x - centre) / jnp.sqrt(variance)
            logs = -0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi * variance)
            part = ndtr(z)
        else:
            seen = (~jnp.isnan(table[:, columns])).sum(-1).T[..., None]
            v = jnp.asarray(normals.freedom)[:, None] + 0.0
            scale = variance * ((v + found.distance) / (v + seen))[..., None]
            v = (v + seen)[..., None]
            spread = scale * v / jnp.maximum(v - 2, 1e-3)
            z = (x - centre) / jnp.sqrt(scale)
            logs = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * jnp.log(v * jnp.pi * scale)
            logs = logs - 0.5 * (v + 1) * jnp.log1p(z**2 / v)
            tail = 0.5 * betainc(v / 2, 0.5, v / (v + z**2))
            part = jnp.where(z > 0, 1 - tail, tail)
        share = r[nodes][..., None]

        def add(total: jax.Array, parts: AnyArray, share: jax.Array = share, c=columns):
            return total.at[:, c.reshape(-1)].add(
                (share * parts).sum(2).transpose(1, 0, 2).reshape(len(table), -1)
            )

        mean = add(mean, centre)
        square = add(square, spread + centre**2)
        density = add(density, jnp.exp(logs))
        below = add(below, part)
    known = ~jnp.isnan(table)

    def only(found: jax.Array) -> jax.Array:
        return jnp.where(known, 0.0, found)

    logs = jnp.where(jnp.isnan(values), jnp.nan, jnp.log(density))
    return Cells(only(mean), only(jnp.maximum(square - mean**2, 0.0)), only(logs), only(below))
