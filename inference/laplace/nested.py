"""The nested Laplace approximation, of a function's values z given a few other sites t.

Functions f = L(t) z have z ~ N(0, I). For each t the posterior of z is taken as normal, at its mode
z(t), with H = -d2 log p(y, z, t) / dz2 = I + L' W L, where W is the curvature of the likelihood:

    log q(t | y) = log p(y, z(t), t) - log |H(t)| / 2 + constant
    d log q / dt = E_t + v' d2 log p / dz dt,    v = H^-1 E_z,    E(t, z) the right side above

(Rasmussen and Williams 2006, section 5.5.1; Rue, Martino and Chopin 2009). The joint mode of (z, t)
would do badly: of many z given few data it is at functions that follow every row. The result is one
normal distribution: t at the mode of q(t | y) with its curvature there, and z | t with the slope
dz/dt = H^-1 d2 log p / dz dt.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.keys import named_key
from inference.core.minimise import minimise_to
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress
from inference.core.structure import AbstractLatentFunction
from inference.core.typing import Key, StoredArrays
from inference.laplace.curvature import inverse_root, normal_parameters
from inference.laplace.joint import rest_of
from inference.sharing import compile_with_data

# Newton steps of a search for z, and the gain in nats at which it ends
MOST_NEWTON, SMALLEST_GAIN = 100, 1e-12
# searches for t, each from a draw of the prior; one far behind another ends
STARTS, BEHIND = 3, 10.0
# stands for a value that is not finite
NOWHERE = 1e10
# half the distance of two gradients of log q(t | y), whose difference is its curvature
STEP = 1e-3


class Newton(NamedTuple):
    """A damped search for the mode of z.

    Attributes:
        z: the point.
        value: log p(y, z, t) there.
        gain: what the last step promised, in nats.
        damping: what is added to the diagonal of H.
        steps: the number of steps.
    """

    z: jax.Array
    value: jax.Array
    gain: jax.Array
    damping: jax.Array
    steps: jax.Array


class Posed(NamedTuple):
    """A problem at given t.

    Attributes:
        log_prior: log p(t) in unconstrained space, with constants.
        roots: L, shape (functions, rows, rows).
        log_densities: maps f, shape (rows, functions), to log p(y_i | f_i, t), shape (rows,).
    """

    log_prior: jax.Array
    roots: jax.Array
    log_densities: Callable[[jax.Array], jax.Array]

    def values(self, z: jax.Array) -> jax.Array:
        """Return f = L z, shape (rows, functions), of flat z."""
        return jnp.einsum("cij,jc->ic", self.roots, z.reshape(self.roots.shape[1], -1))

    def log_density(self, z: jax.Array) -> jax.Array:
        """Return log p(y, z, t)."""
        return self.log_prior - z @ z / 2 + jnp.sum(self.log_densities(self.values(z)))

    def slope_and_precision(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the gradient of `log_density`, and H."""
        f = self.values(z)

        def slopes(f: jax.Array) -> jax.Array:
            return jax.grad(lambda f: jnp.sum(self.log_densities(f)))(f)

        # rows do not touch each other, so one direction a function tells the curvature of all rows
        directions = jnp.broadcast_to(jnp.eye(f.shape[1])[:, None], (f.shape[1], *f.shape))
        W = -jax.vmap(lambda e: jax.jvp(slopes, (f,), (e,))[1])(directions)
        slope = jnp.einsum("cij,ic->jc", self.roots, slopes(f)).reshape(-1) - z
        curved = jnp.einsum("dic,dib->cidb", W, self.roots)
        inner = jnp.einsum("cia,cidb->acbd", self.roots, curved).reshape(len(z), len(z))
        return slope, jnp.eye(len(z)) + inner


def fit_nested(
    problem: Problem, max_steps: int, key: Key, progress: AbstractProgress
) -> tuple[StoredArrays, bool]:
    """Find the mode of the other sites, and the normal distribution there.

    Args:
        problem: the problem whose posterior is approximated, with an `AbstractLatentFunction`.
        max_steps: the most steps of each search.
        key: the random key of the starts.
        progress: what shows how far the fit is.

    Returns:
        The parameters of the normal distribution, and whether the search converged.
    """
    inner, outer = _places(problem)
    evaluate = compile_with_data(problem, _minus_evidence_and_slope)
    # each search for z starts where the last one ended
    last = np.zeros(len(inner))
    lowest, best = np.inf, last

    def value_and_slope(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal last, lowest, best
        value, slope, z = map(np.asarray, evaluate(t, last))
        # a line search steps back from where nothing is finite
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            last = np.zeros(len(inner))
            return np.asarray(NOWHERE), np.zeros(len(t))
        last = z
        if value < lowest:
            lowest, best = value, z
        return value, slope

    t, converged = _search(problem, value_and_slope, outer, max_steps, key)
    progress.advance(1)
    # other searches may have ended at other modes of z
    last = best
    z, precision, slope = map(np.asarray, compile_with_data(problem, _at_mode)(t, last))
    root = np.zeros((len(inner) + len(outer),) * 2)
    root[np.ix_(inner, inner)] = inverse_root(precision)
    if len(outer):
        between = inverse_root(_curvature(value_and_slope, t))
        root[np.ix_(outer, outer)] = between
        root[np.ix_(inner, outer)] = slope @ between
    loc = np.zeros(len(root))
    loc[inner], loc[outer] = z, t
    return normal_parameters(loc, root), converged


def _places(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of z, and of the other sites, in flat unconstrained space."""
    density, site = problem.log_density(), problem.structure_as(AbstractLatentFunction).site
    # known while a function of them is traced
    with jax.ensure_compile_time_eval():
        zeros = density.unravel(jnp.zeros(density.shape.shape, density.shape.dtype))
        of_site = {name: jnp.full(u.shape, name == site) for name, u in zeros.items()}
        chosen = np.asarray(density.ravel(of_site), bool)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _search(
    problem: Problem, value_and_slope: Callable, outer: np.ndarray, max_steps: int, key: Key
) -> tuple[np.ndarray, bool]:
    """Return the mode of q(t | y) over some searches, and whether its search converged."""
    if not len(outer):
        return np.zeros(0), bool(value_and_slope(np.zeros(0))[0] < NOWHERE)
    keys = [named_key(key, f"search {i}") for i in range(STARTS)]
    best, lowest, converged = None, np.inf, False
    starts = problem.log_density().starts(keys)
    for start in chain([next(starts)], rest_of(starts)):
        t, value, done = minimise_to(value_and_slope, start[outer], max_steps, lowest + BEHIND)
        if value < min(lowest, NOWHERE):
            best, lowest, converged = t, value, done
    if best is None:
        raise ProblemError(
            "No point with a finite Laplace approximation of the evidence was found: give tighter "
            "priors, or use NUTS()."
        )
    return best, converged


def _curvature(value_and_slope: Callable, t: np.ndarray) -> np.ndarray:
    """Return the Hessian of -log q(t | y) by central differences of its gradient."""
    steps = STEP * np.eye(len(t))
    pairs = [(value_and_slope(t + e), value_and_slope(t - e)) for e in steps]
    if any(value >= NOWHERE for pair in pairs for value, _ in pair):
        raise ProblemError(
            "The Laplace approximation of the evidence is not finite beside its mode: give tighter "
            "priors, or use NUTS()."
        )
    matrix = np.stack([above[1] - below[1] for above, below in pairs]) / (2 * STEP)
    return (matrix + matrix.T) / 2


def _posed(problem: Problem, t: jax.Array) -> Posed:
    """Return the problem at t."""
    structure, density = problem.structure_as(AbstractLatentFunction), problem.log_density()
    inner, outer = _places(problem)
    u = jnp.zeros(len(inner) + len(outer), density.shape.dtype).at[outer].set(t)
    sites, (X, y) = density.constrain(u), problem.args
    roots = structure.roots(sites, X)
    functions = sites[structure.site].shape[1]

    def log_densities(f: jax.Array) -> jax.Array:
        return structure.log_densities(sites, f, y, **problem.kwargs)

    at_zero = jnp.sum(log_densities(jnp.zeros((len(X), functions))))
    everywhere = jnp.broadcast_to(roots, (functions, *roots.shape[1:]))
    return Posed(density(u) - at_zero, everywhere, log_densities)


def _mode(posed: Posed, z: jax.Array) -> jax.Array:
    """Return the mode of z, from a start, by Newton steps with damping."""

    def advance(now: Newton) -> Newton:
        slope, precision = posed.slope_and_precision(now.z)
        damped = precision + now.damping * jnp.eye(len(z))
        step = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(damped), True), slope)
        value = posed.log_density(now.z + step)
        # a matrix that is not positive definite has no factor, and steps that are NaN
        better = value >= now.value - SMALLEST_GAIN * jnp.abs(now.value)
        smaller = jnp.where(now.damping < 1e-3, 0.0, now.damping / 10)
        return Newton(
            jnp.where(better, now.z + step, now.z),
            jnp.where(better, value, now.value),
            jnp.where(better, slope @ step + now.damping, jnp.inf),
            jnp.where(better, smaller, jnp.maximum(10 * now.damping, 1.0)),
            now.steps + 1,
        )

    def goes_on(now: Newton) -> jax.Array:
        small = now.gain <= SMALLEST_GAIN * jnp.maximum(1.0, jnp.abs(now.value))
        return ~small & (now.steps < MOST_NEWTON)

    zero, infinite = jnp.zeros((), z.dtype), jnp.full((), jnp.inf, z.dtype)
    start = Newton(z, posed.log_density(z), infinite, zero, jnp.asarray(0))
    return jax.lax.while_loop(goes_on, advance, start).z


def _minus_evidence(problem: Problem, t: jax.Array, z: jax.Array) -> jax.Array:
    """Return -E(t, z), minus the log density with the determinant of its curvature in z."""
    posed = _posed(problem, t)
    lower = jnp.linalg.cholesky(posed.slope_and_precision(z)[1])
    return jnp.sum(jnp.log(jnp.diagonal(lower))) - posed.log_density(z)


def _minus_evidence_and_slope(
    problem: Problem, t: jax.Array, start: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return -log q(t | y), its gradient in t, and the mode of z."""
    t, posed = jnp.asarray(t), _posed(problem, t)
    z = _mode(posed, jnp.asarray(start))
    value, (in_t, in_z) = jax.value_and_grad(lambda t, z: _minus_evidence(problem, t, z), (0, 1))(
        t, z
    )
    v = jnp.linalg.solve(posed.slope_and_precision(z)[1], in_z)

    def along(t: jax.Array) -> jax.Array:
        return v @ _slope(problem, t, z)

    return value, in_t + jax.grad(along)(t), z


def _slope(problem: Problem, t: jax.Array, z: jax.Array) -> jax.Array:
    """Return the gradient of log p(y, z, t) in z."""
    return jax.grad(_posed(problem, t).log_density)(z)


def _at_mode(
    problem: Problem, t: jax.Array, start: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return z(t), the precision H there, and dz/dt."""
    t, posed = jnp.asarray(t), _posed(problem, t)
    z = _mode(posed, jnp.asarray(start))
    precision = posed.slope_and_precision(z)[1]
    mixed = jax.jacfwd(lambda t: _slope(problem, t, z))(t)
    return z, (precision + precision.T) / 2, jnp.linalg.solve(precision, mixed)
