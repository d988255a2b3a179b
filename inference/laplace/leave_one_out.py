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
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from numpyro import handlers

from inference.core.problem import Problem
from inference.core.structure import LayeredNetwork
from inference.core.typing import SiteArrays, StoredArrays
from inference.laplace.network import WeightDensity
from inference.laplace.skewness import normal_points, spread_of_outputs
from inference.sharing import compile_with_data

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
    loc, root = np.asarray(params["loc"]), np.asarray(params["covariance_root"])
    linear = _linear_density(problem, expansion)
    sites = linear.constrain(loc)
    known = {name: jnp.asarray(sites[name]) for name in problem.latents}
    spread = spread_of_outputs(problem, _linear_outputs, (), loc, root, expansion)
    shape = spread.shape[:2]
    curve = functools.partial(compile_with_data(problem, _curve), expansion, known)
    expected = functools.partial(compile_with_data(problem, _expected), expansion, known)
    gradient, precision = map(np.asarray, curve(np.zeros(shape)))
    # V_-i = L (I - L' Lambda L)^-1 L' with L L' = V_i
    shares, vectors = np.linalg.eigh(np.swapaxes(spread, 1, 2) @ precision @ spread)
    stretch = 1 / np.sqrt(1 - np.minimum(shares, LARGEST_SHARE))
    wider = spread @ vectors * stretch[:, None, :]
    move = -np.einsum("nij,nkj,nk->ni", wider, wider, gradient)
    # a standard deviation away
    away = np.sqrt((wider**2).sum(-1))
    level = np.asarray(expected(np.zeros((1, *shape))))
    if level.shape == shape[:1] and _is_same(precision, np.asarray(curve(away)[1])):
        return level + _change(gradient, precision, move, wider)
    points = normal_points(jax.random.key(0), *shape)
    return np.asarray(expected(move + np.einsum("nij,knj->kni", wider, points)))


def _linear_density(problem: Problem, expansion: Mapping[str, Any]) -> WeightDensity:
    """Return the log density of the problem with its network linearised."""
    program = problem.structure_as(LayeredNetwork).linearize(problem.program, dict(expansion))
    return WeightDensity(dataclasses.replace(problem, program=program))


def _linear_outputs(problem: Problem, u: jax.Array, expansion: SiteArrays) -> jax.Array:
    """Return the outputs of the linearised network, shape (rows, outputs)."""
    here = _linear_density(problem, expansion).constrain(u)
    at = {name: jnp.asarray(value) for name, value in expansion.items()}
    step = {name: jnp.asarray(here[name]) - value for name, value in at.items()}
    X, layers = jnp.asarray(problem.args[0]), problem.structure_as(LayeredNetwork)
    f, change = jax.jvp(lambda sites: layers.outputs(sites, X), (at,), (step,))
    return f + change


def _log_likelihood(
    problem: Problem, expansion: SiteArrays, known: SiteArrays, shift: jax.Array
) -> jax.Array:
    """Return log p(y_i | f_i) of each row with a shift of the network's outputs."""
    program = problem.structure_as(LayeredNetwork).linearize(problem.program, expansion)
    seeded = handlers.seed(program, jax.random.key(0))
    trace = handlers.trace(handlers.substitute(seeded, data=known))
    found = trace.get_trace(*problem.args, shift=shift)[problem.observed[0]]
    return found["fn"].log_prob(found["value"])


def _curve(
    problem: Problem, expansion: SiteArrays, known: SiteArrays, zero: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return gradient and precision of log p(y_i | f_i) in f_i."""

    def slope(shift: jax.Array) -> jax.Array:
        return jax.grad(lambda s: _log_likelihood(problem, expansion, known, s).sum())(shift)

    along = [jnp.zeros(zero.shape).at[:, k].set(1.0) for k in range(zero.shape[1])]
    columns = [jax.jvp(slope, (zero,), (direction,))[1] for direction in along]
    return slope(zero), -jnp.stack(columns, axis=-1)


def _expected(
    problem: Problem, expansion: SiteArrays, known: SiteArrays, shifts: jax.Array
) -> jax.Array:
    """Return log E[p(y_i | f_i)] of each row over shifts of its outputs."""
    logs = jax.lax.map(
        lambda shift: _log_likelihood(problem, expansion, known, shift), shifts, batch_size=16
    )
    return logsumexp(logs, axis=0) - jnp.log(len(shifts))


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
