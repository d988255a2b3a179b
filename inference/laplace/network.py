"""The Laplace approximation of a Bayesian neural network, linearised at the mode.

The curvature of the weights w is the generalised Gauss-Newton matrix

    A = J' Lambda J + P,
    J = df/dw,    Lambda = -d^2 log p(y | f) / df^2,    P = -d^2 log p(w) / dw^2,

which is the Hessian of the program with its network linearised at the mode, and predictions use
that linearised network (Immer, Korzepa and Bauer 2021, arXiv:2008.08400). The weights must be
normal given all other sites: a heavy tail or a kink at zero has no curvature that describes it.

All other latent sites h (noise, prior scales) are found by expectation maximisation of the Laplace
evidence: E-step q(w) = N(w*, A^-1), M-step h = argmax E_q[log p(y, w, h)]. The curvature of that
evidence gives the precision of h; w and h are independent in the approximation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress
from inference.core.structure import LayeredNetwork
from inference.core.typing import Key, SiteArrays, StoredArrays
from inference.laplace.curvature import compile_hessian, inverse_root, normal_parameters
from inference.laplace.skewness import best_mean, normal_points, spread_of_outputs
from inference.sharing import compile_with_data

# steps of the first search for a mode; later ones know the curvature
FIRST_STEPS = 200
# the largest entry of a gradient at a mode, in units of the posterior standard deviation
NEAR_MODE = 0.02
# the most sites h whose precision is that of the evidence
MOST_EVIDENCE_SITES = 20


@dataclasses.dataclass(frozen=True, eq=False)
class WeightDensity:
    """The log density of (w, h), with w the weights as the network sees them.

    h are all other sites. If the latent site is z with w = s z and the scale s among h, data that
    determine w let z and s compensate each other, while w hardly depends on s. So
    log p(y, w, h) = log p(y, z = w / s, h) - sum log s is the nearer to normal.

    Attributes:
        problem: the problem, with a layered network as its structure.
    """

    problem: Problem

    def scale(self, u: ArrayLike) -> jax.Array:
        """Return the scale s relating each network weight to its latent: w = s * latent.

        It has the shape of the flat vector u, and is 1 for all of h.
        """
        density = self.problem.log_density()
        weights = self.problem.structure_as(LayeredNetwork).weights
        sites = density.unravel(jnp.asarray(u))
        ones = {name: jnp.ones_like(value) for name, value in sites.items()}
        scaled = {name: seen for name, seen in weights.items() if seen != name}
        if scaled:
            at_one = density.constrain(density.ravel(sites | {name: ones[name] for name in scaled}))
            ones |= {name: at_one[seen] for name, seen in scaled.items()}
        return density.ravel(ones)

    def __call__(self, u: ArrayLike) -> jax.Array:
        """Return log p(y, w, h), with w and unconstrained h in the flat vector u."""
        scale = self.scale(u)
        return self.problem.log_density()(u / scale) - jnp.log(scale).sum()

    def constrain(self, u: ArrayLike) -> SiteArrays:
        """Return the program's sites at u."""
        return self.problem.log_density().constrain(u / self.scale(u))


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the weights w and the other sites h stand in a flat vector.

    Attributes:
        of_weights: whether each entry belongs to weights.
    """

    of_weights: tuple[bool, ...]

    def join(self, w: ArrayLike, h: ArrayLike) -> jax.Array:
        """Return the flat vector of w and h."""
        mask = np.asarray(self.of_weights)
        joined = jnp.zeros(mask.size).at[np.flatnonzero(mask)].set(w)
        return joined.at[np.flatnonzero(~mask)].set(h)


class LinearisedModel:
    """The functions of (w, h) that expectation maximisation needs, compiled once.

    Args:
        problem: the problem, with a layered network as its structure.
        weights: which entries of the flat vector belong to weights, shape (d,).
        noise: standard normal numbers for draws of w, shape (draws, weights).
    """

    def __init__(self, problem: Problem, weights: np.ndarray, noise: np.ndarray) -> None:
        self.problem, self.noise = problem, noise
        self.places = Places(tuple(weights.tolist()))
        compiled = functools.partial(compile_with_data, problem)
        self.mode_of_w = compiled(_with_slope, _potential, self.places)
        self.mode_of_v = compiled(_with_slope, _whitened_potential, self.places)
        self.mode_of_h = compiled(_with_slope, _expected_potential, self.places)
        self.slope_in_w = compiled(_with_slope, _linear_potential, self.places)
        self.curvature = compile_hessian(problem, _linear_potential, self.places)
        self.constrain = compiled(_sites, self.places)

    def find_mode(
        self, w: np.ndarray, h: np.ndarray, root: np.ndarray | None, max_steps: int
    ) -> tuple[np.ndarray, bool]:
        """Return the mode of w given h, and whether the search converged.

        Args:
            w: where the search starts.
            h: the other sites.
            root: a root of the inverse curvature somewhere near, in whose units the search needs
                few steps; None for a first search, which is short.
            max_steps: the largest number of steps.
        """
        if root is None:
            return minimise(self.mode_of_w, w, min(max_steps, FIRST_STEPS), h)
        fixed = w, root, h
        v, found = minimise(self.mode_of_v, np.zeros(w.size), max_steps, *fixed, gradient=NEAR_MODE)
        return w + root @ v, found

    def is_quadratic(
        self, w: np.ndarray, other: np.ndarray, h: np.ndarray, expansion: StoredArrays
    ) -> bool:
        """Return whether the linearised model has the same curvature at two values of w."""
        here, there = (self.curvature(at, h, expansion) for at in (w, other))
        return bool(np.abs(here - there).max() <= 1e-6 * np.abs(here).max())

    def mean_of_w(
        self, w: np.ndarray, h: np.ndarray, expansion: StoredArrays, root: np.ndarray, key: Key
    ) -> np.ndarray:
        """Return the mean of w, which is not the mode where the likelihood is skewed.

        Args:
            w: the mode.
            h: the other sites.
            expansion: the sites around which the network is linearised.
            root: R with R R' the covariance of w.
            key: the random key for the points of an expectation.
        """
        spread = spread_of_outputs(self.problem, _outputs, (self.places,), w, root, h)
        points = normal_points(key, *spread.shape[:2])
        shifts = np.einsum("nij,knj->kni", spread, points)
        return best_mean(
            self.problem, _shifted_potential, (self.places,), w, root, shifts, h, expansion
        )

    def expand(self, w: np.ndarray, h: np.ndarray) -> StoredArrays:
        """Return the sites at (w, h), around which the network is linearised."""
        return jax.tree.map(np.asarray, self.constrain(w, h))

    def posterior_of_w(
        self, w: np.ndarray, h: np.ndarray, expansion: StoredArrays
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a root of A^-1, and draws from N(w*, A^-1).

        w* is one Newton step from w, which is exact in the linearised model.
        """
        root = inverse_root(self.curvature(w, h, expansion))
        gradient = np.asarray(self.slope_in_w(w, h, expansion)[1])
        return root, w - root @ (root.T @ gradient) + self.noise @ root.T

    def root_of_h(self, w: np.ndarray, h: np.ndarray, expansion: StoredArrays) -> np.ndarray:
        """Return R with R R' the covariance of h.

        It comes from the evidence, or from the curvature at fixed q, which is too sure of h. The
        second is for more than `MOST_EVIDENCE_SITES` sites h, and for an evidence without the
        curvature of a maximum.
        """
        if h.size <= MOST_EVIDENCE_SITES:
            with contextlib.suppress(ProblemError):
                return inverse_root(self.evidence_hessian(w, h, expansion))
        _, draws = self.posterior_of_w(w, h, expansion)
        hessian = compile_hessian(self.problem, _expected_potential, self.places)
        return inverse_root(hessian(h, draws, expansion))

    def evidence_hessian(self, w: np.ndarray, h: np.ndarray, expansion: StoredArrays) -> np.ndarray:
        """Return minus the Hessian in h of the Laplace evidence.

        It is made by central differences of the gradient. By Fisher's identity the gradient at h
        is that of E_q[log p(y, w, h)] under q = p(w | y, h), so it holds how q moves with h.
        """

        def gradient(h: np.ndarray) -> np.ndarray:
            _, draws = self.posterior_of_w(w, h, expansion)
            return np.asarray(self.mode_of_h(h, draws, expansion)[1])

        steps = 1e-2 * np.eye(h.size)
        matrix = np.stack([(gradient(h + step) - gradient(h - step)) / 2e-2 for step in steps])
        return (matrix + matrix.T) / 2


# Functions of (w, h), of which problems of one form share what is compiled.


def _with_slope(
    problem: Problem, function: Callable, places: Places, u: jax.Array, *fixed: Any
) -> tuple[jax.Array, jax.Array]:
    """Return a function at u, and its gradient."""
    return jax.value_and_grad(lambda u: function(problem, places, u, *fixed))(u)


def _sites(problem: Problem, places: Places, w: ArrayLike, h: ArrayLike) -> SiteArrays:
    """Return the program's sites."""
    return WeightDensity(problem).constrain(places.join(w, h))


def _outputs(problem: Problem, places: Places, w: ArrayLike, h: ArrayLike) -> jax.Array:
    """Return the network's outputs, shape (rows, outputs)."""
    sites = _sites(problem, places, w, h)
    return problem.structure_as(LayeredNetwork).outputs(sites, problem.args[0])


def _potential(problem: Problem, places: Places, w: ArrayLike, h: ArrayLike) -> jax.Array:
    """Return -log p(y, w, h)."""
    return -WeightDensity(problem)(places.join(w, h))


def _whitened_potential(
    problem: Problem,
    places: Places,
    v: ArrayLike,
    w: ArrayLike,
    root: ArrayLike,
    h: ArrayLike,
) -> jax.Array:
    """Return -log p(y, w + R v, h), whose curvature in v is near one."""
    return _potential(problem, places, jnp.asarray(w) + jnp.asarray(root) @ v, h)


def _linear_potential(
    problem: Problem, places: Places, w: ArrayLike, h: ArrayLike, expansion: dict
) -> jax.Array:
    """Return -log p(y, w, h) with the network linearised."""
    return _shifted_potential(problem, places, w, None, h, expansion)


def _shifted_potential(
    problem: Problem,
    places: Places,
    w: ArrayLike,
    shift: ArrayLike | None,
    h: ArrayLike,
    expansion: dict,
) -> jax.Array:
    """Return -log p(y, w, h) of the linearised network with a shift of its outputs."""
    linearize = problem.structure_as(LayeredNetwork).linearize
    program = functools.partial(linearize(problem.program, expansion), shift=shift)
    return _potential(dataclasses.replace(problem, program=program), places, w, h)


def _expected_potential(
    problem: Problem, places: Places, h: ArrayLike, draws: ArrayLike, expansion: dict
) -> jax.Array:
    """Return -E_q[log p(y, w, h)] over draws of w, with the network linearised."""
    return jax.vmap(lambda w: _linear_potential(problem, places, w, h, expansion))(draws).mean()


def fit_network(
    problem: Problem,
    u: np.ndarray,
    key: Key,
    progress: AbstractProgress,
    *,
    max_steps: int,
    num_rounds: int,
    num_draws: int,
    tolerance: float,
) -> tuple[StoredArrays, StoredArrays, bool]:
    """Find the mode and the precision of the weights, and the other sites.

    Args:
        problem: the problem, with a layered network as its structure.
        u: the point of unconstrained space at which the search starts, shape (d,).
        key: the random key for the draws of the M-step.
        progress: what shows how far the fit is.
        max_steps: see `Laplace`.
        num_rounds: see `Laplace`.
        num_draws: see `Laplace`.
        tolerance: see `Laplace`.

    Returns:
        The parameters of the normal distribution of (w, h), the sites around which the network is
        linearised, and whether all searches converged.
    """
    weights, u = _weight_mask(problem, u), u * np.asarray(WeightDensity(problem).scale(u))
    shape = (num_draws, int(weights.sum()))
    noise = np.asarray(jax.random.normal(named_key(key, "draws"), shape))
    model = LinearisedModel(problem, weights, noise)
    w, h, converged, root = u[weights], u[~weights], not (~weights).any(), None
    # without other sites a short search and a full one
    try:
        for _ in range(num_rounds if h.size else 2):
            w, found = model.find_mode(w, h, root, max_steps)
            expansion = model.expand(w, h)
            if converged and (found or root is not None):
                converged = found
                break
            root, draws = model.posterior_of_w(w, h, expansion)
            if not h.size:
                continue
            old = h
            h, _ = minimise(model.mode_of_h, h, max_steps, draws, expansion)
            change = np.max(np.abs(old - h))
            # when it is small, the next round finds the mode of w for this h and ends
            converged = bool(change < tolerance)
            progress.advance(1, change=f"{change:.2g}")
    except KeyboardInterrupt:
        if root is None:
            raise
        converged, expansion = False, model.expand(w, h)
        progress.stopped()
    root_w, draws = model.posterior_of_w(w, h, expansion)
    mean = w
    if not progress.is_stopped and not model.is_quadratic(w, draws[0], h, expansion):
        mean = model.mean_of_w(w, h, expansion, root_w, named_key(key, "mean"))
    roots = [root_w] + ([model.root_of_h(w, h, expansion)] if h.size else [])
    import scipy.linalg

    order = np.argsort(np.r_[np.flatnonzero(weights), np.flatnonzero(~weights)])
    root = np.asarray(scipy.linalg.block_diag(*roots))[np.ix_(order, order)]
    return normal_parameters(np.asarray(model.places.join(mean, h)), root), expansion, converged


def _weight_mask(problem: Problem, u: Float[np.ndarray, "size"]) -> Bool[np.ndarray, "size"]:
    """Return which entries of the flat vector belong to weights."""
    density, weights = problem.log_density(), problem.structure_as(LayeredNetwork).weights
    sites = density.unravel(jnp.asarray(u))
    masks = {name: jnp.full_like(value, name in weights) for name, value in sites.items()}
    return np.asarray(density.ravel(masks), bool)
