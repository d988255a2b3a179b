"""Leave-one-out densities of a linearised network in closed form.

Given all rows, the outputs of row i are f_i ~ N(m_i, V_i), V_i = J_i S J_i'. With g_i and
-Lambda_i the first and second derivative of log p(y_i | f_i) at m_i, the row itself is taken out
again by

    V_-i = (V_i^-1 - Lambda_i)^-1,    m_-i = m_i - V_-i g_i,
    p(y_i | y_-i) = E[p(y_i | f)],    f ~ N(m_-i, V_-i),

which is exact for normal noise of known scale. There log p(y_i | f) is quadratic in f, and with
r = Lambda_i^-1 g_i - (m_-i - m_i) the expectation is

    log p(y_i | m_i) + g_i' Lambda_i^-1 g_i / 2 - log det(I + Lambda_i V_-i) / 2
        - r' (V_-i + Lambda_i^-1)^-1 r / 2.

For other likelihoods it is an average over points. Vehtari, Mononen, Tolvanen, Sivula and Winther
(2016), arXiv:1412.7461, section 3.3.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from numpyro import handlers

from inference.core.problem import Problem
from inference.core.structure import LayeredNetwork
from inference.core.typing import StoredArrays
from inference.laplace.network import WeightDensity
from inference.laplace.skewness import normal_points, spread_of_outputs

# the largest share of a row's precision that is its own; more is rounding, or a poor expansion
LARGEST_SHARE = 0.99
# how far a second derivative that is the same everywhere may differ, by rounding
SAME = 1e-8


def left_out_densities(
    problem: Problem, params: StoredArrays, expansion: StoredArrays
) -> np.ndarray:
    """Return log p(y_i | y_-i) of each row.

    Args:
        problem: the problem, with a layered network as its structure.
        params: the parameters of the normal distribution of weights and other sites.
        expansion: the sites around which the network is linearised.
    """
    layers, data = problem.structure_as(LayeredNetwork), problem.args
    program = layers.linearize(expansion)
    density = WeightDensity(dataclasses.replace(problem, program=program))
    loc, root = np.asarray(params["loc"]), np.asarray(params["covariance_root"])
    site = problem.observed[0]
    at = {name: jnp.asarray(value) for name, value in expansion.items()}

    def outputs(u: jax.Array) -> jax.Array:
        here = density.constrain(u)
        step = {name: jnp.asarray(here[name]) - value for name, value in at.items()}
        X = jnp.asarray(data[0])
        f, change = jax.jvp(lambda sites: layers.outputs(sites, X), (at,), (step,))
        return f + change

    sites = density.constrain(loc)
    known = {name: jnp.asarray(sites[name]) for name in problem.latents}

    # the data are arguments, as JAX may have seen them in another precision before
    def log_likelihood(shift: jax.Array, data: tuple) -> jax.Array:
        seeded = handlers.seed(program, jax.random.key(0))
        trace = handlers.trace(handlers.substitute(seeded, data=known))
        found = trace.get_trace(*data, shift=shift)[site]
        return found["fn"].log_prob(found["value"])

    spread = spread_of_outputs(outputs, loc, root)
    shape = spread.shape[:2]

    @jax.jit
    def curve(zero: jax.Array, data: tuple) -> tuple[jax.Array, jax.Array]:
        slope = jax.grad(lambda shift: log_likelihood(shift, data).sum())
        along = [jnp.zeros(shape).at[:, k].set(1.0) for k in range(shape[1])]
        columns = [jax.jvp(slope, (zero,), (direction,))[1] for direction in along]
        return slope(zero), -jnp.stack(columns, axis=-1)

    @jax.jit
    def expected(shifts: jax.Array, data: tuple) -> jax.Array:
        logs = jax.lax.map(lambda shift: log_likelihood(shift, data), shifts, batch_size=16)
        return logsumexp(logs, axis=0) - jnp.log(len(shifts))

    gradient, precision = map(np.asarray, curve(np.zeros(shape), data))
    # V_-i = L (I - L' Lambda L)^-1 L' with L L' = V_i
    shares, vectors = np.linalg.eigh(np.swapaxes(spread, 1, 2) @ precision @ spread)
    stretch = 1 / np.sqrt(1 - np.minimum(shares, LARGEST_SHARE))
    wider = spread @ vectors * stretch[:, None, :]
    move = -np.einsum("nij,nkj,nk->ni", wider, wider, gradient)
    # a standard deviation away
    away = np.sqrt((wider**2).sum(-1))
    level = np.asarray(expected(np.zeros((1, *shape)), data))
    if level.shape == shape[:1] and _is_same(precision, np.asarray(curve(away, data)[1])):
        return level + _change(gradient, precision, move, wider)
    points = normal_points(jax.random.key(0), *shape)
    return np.asarray(expected(move + np.einsum("nij,knj->kni", wider, points), data))


def _is_same(precision: np.ndarray, elsewhere: np.ndarray) -> bool:
    """Return whether log densities are quadratic: of one positive definite second derivative."""
    if not np.allclose(precision, elsewhere, rtol=SAME, atol=SAME * np.abs(precision).max()):
        return False
    smallest = np.linalg.eigvalsh(precision)
    return bool((smallest[:, 0] > SAME * smallest[:, -1]).all())


def _change(
    gradient: np.ndarray, precision: np.ndarray, move: np.ndarray, wider: np.ndarray
) -> np.ndarray:
    """Return log E[exp(g' d - d' Lambda d / 2)] for d ~ N(move, wider wider')."""
    inverse = np.linalg.inv(precision)
    total = wider @ np.swapaxes(wider, 1, 2) + inverse
    best = np.einsum("nij,nj->ni", inverse, gradient)
    rest = best - move
    weighed = np.linalg.solve(total, rest[:, :, None])[:, :, 0]
    height = (gradient * best).sum(1) - (rest * weighed).sum(1)
    return (height - np.linalg.slogdet(precision @ total)[1]) / 2
