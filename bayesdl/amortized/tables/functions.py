"""Functions of rows, each a random draw of a family, with columns of mean 0 and deviation 1.

linear     x w
network    two hidden layers; the activation is tanh, a rectifier or a sine
trees      a sum of oblivious trees, whose levels split drawn columns at drawn rows
additive   sums of sines of single columns
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bayesdl.amortized.tables.pool import Pool
from bayesdl.amortized.tables.rows import standardize

WIDTH = 24
TREES = 12
DEPTH = 4
WAVES = 3


def linear(pool: Pool, x: jax.Array, outputs: int) -> jax.Array:
    """Return a linear function of rows, shape (rows, outputs)."""
    return standardize(x @ pool.normal(x.shape[1], outputs))


def network(pool: Pool, x: jax.Array, outputs: int) -> jax.Array:
    """Return a random network's outputs, shape (rows, outputs)."""
    gain = jnp.exp(0.3 + 0.5 * pool.normal(2))
    which = pool.whole(0, 3)
    h = standardize(x @ pool.normal(x.shape[1], WIDTH))
    for layer in range(2):
        bias = pool.normal(1, WIDTH)
        a = gain[layer] * h + bias
        h = jnp.select([which == 0, which == 1], [jnp.tanh(a), jax.nn.relu(a)], jnp.sin(a))
        size = WIDTH if layer == 0 else outputs
        h = h @ pool.normal(WIDTH, size)
        h = standardize(h)
    return h


def trees(pool: Pool, x: jax.Array, outputs: int) -> jax.Array:
    """Return the sum of a few random trees, shape (rows, outputs).

    A column is split with a probability in proportion to its size, as relevance scales columns.
    """
    rows = len(x)
    logits = jnp.log(jnp.sqrt((x**2).mean(0)) + 1e-9)
    column = pool.choice(logits, TREES, DEPTH)
    row = pool.whole(0, rows, TREES, DEPTH)
    deep = pool.whole(1, DEPTH + 1, TREES, 1)
    above = x[:, column] > x[row, column][None]
    bits = jnp.where(jnp.arange(DEPTH)[None, None] < deep[None], above, False)
    leaf = (bits * 2 ** jnp.arange(DEPTH)[None, None]).sum(-1)
    values = pool.normal(TREES, 2**DEPTH, outputs)
    some = pool.whole(1, TREES + 1)
    values = jnp.where((jnp.arange(TREES) < some)[:, None, None], values, 0.0)
    return standardize(values[jnp.arange(TREES)[None, :], leaf].sum(1))


def additive(pool: Pool, x: jax.Array, outputs: int) -> jax.Array:
    """Return a sum of functions of single columns, shape (rows, outputs)."""
    columns = x.shape[1]
    rate = jnp.exp(0.7 * pool.normal(columns, WAVES))
    phase = 6.28 * pool.uniform(columns, WAVES)
    size = jnp.sqrt((x**2).mean(0, keepdims=True) + 1e-9)
    waves = jnp.sin((x / size)[:, :, None] * rate[None] + phase[None])
    heights = pool.normal(columns, WAVES, outputs)
    return standardize(jnp.einsum("ncw,cwo->no", waves * size[:, :, None], heights))


FUNCTIONS = {"linear": linear, "network": network, "trees": trees, "additive": additive}
