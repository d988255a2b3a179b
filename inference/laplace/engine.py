"""The Laplace approximation: a normal distribution at the mode, with the curvature there as its precision.

For a program that offers `LayeredNetwork` the curvature is the generalised Gauss-Newton matrix

    A = J' Lambda J + P,    J = df/dw,  Lambda = -d^2 log p(y | f) / df^2,  P = -d^2 log p(w) / dw^2,

which is the Hessian of the program with its network linearised at the mode, and predictions use that linearised
network (Immer, Korzepa and Bauer 2021, arXiv:2008.08400). The weights must be normal given all other sites: a heavy tail or
a kink at zero has no curvature that describes it. All other latent sites h (noise, prior scales) are found by
expectation maximisation of the Laplace evidence: E-step q(w) = N(w*, A^-1), M-step h = argmax E_q[log p(y, w, h)]. The
curvature of that evidence gives the precision of h; w and h are independent in the approximation.
For any other program it is the textbook approximation at the joint mode (MacKay 1992). Runs in double precision.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from inference.core.engine import (
    AbstractEngine,
    check_positive,
    check_positive_integers,
    needs_gradients,
)
from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.problem import LogDensity, Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import Approximation
from inference.core.structure import LayeredNetwork

MANY = 20
LARGEST = 5000  # a dense precision matrix of this size takes 200 MB


@dataclasses.dataclass(frozen=True)
class Laplace(AbstractEngine):
    """Laplace approximation; linearised (Gauss-Newton) for networks.

    Attributes:
        max_steps: L-BFGS steps of each search for a mode.
        num_rounds: at most so many rounds of expectation maximisation for the sites that are not weights (networks only).
        tolerance: largest change of such a site, in unconstrained space, at which the rounds stop.
        num_draws: draws that stand for q(w) in the M-step.

    Example:
        >>> Laplace(num_rounds=5).num_rounds
        5
    """

    max_steps: int = 2000
    num_rounds: int = 50
    num_draws: int = 64
    tolerance: float = 0.005

    def __post_init__(self) -> None:
        check_positive(self, "tolerance")
        check_positive_integers(self, "max_steps", "num_rounds", "num_draws")

    def supports(self, problem: Problem) -> str | None:
        size = sum(int(np.prod(shape)) for shape in problem.latents.values())
        if size > LARGEST:
            return (
                f"{size} latent dimensions need a dense matrix of that size; the limit is {LARGEST}"
            )
        if isinstance(problem.structure, LayeredNetwork) and not problem.structure.scale_per_site:
            return "it needs weights that are normal with one scale per layer (bdl.priors.Gaussian or Hierarchical)"
        return needs_gradients(problem)

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> Approximation:
        started = time.perf_counter()
        layered = isinstance(problem.structure, LayeredNetwork)
        progress.start(self.num_rounds if layered else 1, "Laplace")
        try:
            with jax.enable_x64(True):
                u = problem.log_density().start(named_key(key, "start"))
                fit = self.network_fit if layered else self.joint_fit
                params, expansion, converged = fit(problem, u, key, progress)
        finally:
            progress.close()
        info = {"converged": converged, "seconds": time.perf_counter() - started}
        return self.approximation(problem, params, expansion, info)

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Approximation:
        expansion = {
            k.removeprefix("expansion/"): v for k, v in arrays.items() if k.startswith("expansion/")
        }
        params = {
            k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")
        }
        return self.approximation(problem, params, expansion or None, info)

    def joint_fit(
        self, problem: Problem, u: np.ndarray, key: jax.Array, progress: AbstractProgress
    ) -> tuple:
        """Mode and Hessian over all latent sites."""
        density = problem.log_density()

        def potential(u: ArrayLike) -> jax.Array:
            return -density(u)

        u, converged = minimise(jax.jit(jax.value_and_grad(potential)), u, self.max_steps)
        progress.advance(1)
        return normal(u, inverse_root(compiled_hessian(potential)(u))), None, converged

    def network_fit(
        self, problem: Problem, u: np.ndarray, key: jax.Array, progress: AbstractProgress
    ) -> tuple:
        """Mode, Gauss-Newton precision of the weights, and expectation maximisation for the rest."""
        weights, u = weight_mask(problem, u), u * np.asarray(WeightDensity(problem).scale(u))
        noise = np.asarray(
            jax.random.normal(named_key(key, "draws"), (self.num_draws, int(weights.sum())))
        )
        model = LinearisedModel(problem, weights, noise)
        w, h, converged = u[weights], u[~weights], not (~weights).any()
        for _ in range(self.num_rounds):
            w, found = minimise(model.mode_of_w, w, self.max_steps, h, problem.args)
            expansion = model.expand(w, h)
            if converged or not h.size:
                converged = found
                break
            _, draws = model.posterior_of_w(w, h, expansion)
            old, (h, _) = (
                h,
                minimise(model.mode_of_h, h, self.max_steps, draws, expansion, problem.args),
            )
            converged = bool(
                np.max(np.abs(old - h)) < self.tolerance
            )  # then once more the mode of w for this h
            progress.advance(1, change=f"{np.max(np.abs(old - h)):.2g}")
        root_w, _ = model.posterior_of_w(w, h, expansion)
        roots = [root_w] + ([model.root_of_h(w, h, expansion)] if h.size else [])
        import scipy.linalg

        order = np.argsort(np.r_[np.flatnonzero(weights), np.flatnonzero(~weights)])
        block = np.asarray(scipy.linalg.block_diag(*roots))
        return (
            normal(np.asarray(model.join(w, h)), block[np.ix_(order, order)]),
            expansion,
            converged,
        )

    def approximation(
        self, problem: Problem, params: dict, expansion: dict | None, info: dict
    ) -> Approximation:
        if expansion is not None:
            program = problem.structure_as(LayeredNetwork).linearize(expansion)
            problem = dataclasses.replace(problem, program=program)
        density = problem.log_density() if expansion is None else WeightDensity(problem)
        return Approximation(
            params,
            draw=functools.partial(draw, density),
            log_weight=functools.partial(log_weight, density),
            losses=np.zeros(0),
            expansion=expansion,
            info=info,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class WeightDensity:
    """The log density of (w, h), with w the weights as the network sees them and h all other sites.

    Where the latent site is z with w = s z and the scale s among h, data that determine w leave z and s to compensate each
    other, while w hardly depends on s. So log p(y, w, h) = log p(y, z = w / s, h) - sum log s is the nearer to normal.
    """

    problem: Problem

    def scale(self, u: ArrayLike) -> jax.Array:
        """For each entry of the flat vector the s by which the network's weight is the latent one; 1 for all of h."""
        density, weights = (
            self.problem.log_density(),
            self.problem.structure_as(LayeredNetwork).weights,
        )
        sites = density.unravel(jnp.asarray(u))
        ones = {name: jnp.ones_like(value) for name, value in sites.items()}
        scaled = {name: seen for name, seen in weights.items() if seen != name}
        if scaled:
            at_one = density.constrain(density.ravel(sites | {name: ones[name] for name in scaled}))
            ones |= {name: at_one[seen] for name, seen in scaled.items()}
        return density.ravel(ones)

    def __call__(self, u: ArrayLike) -> jax.Array:
        """Log p(y, w, h), u being w and unconstrained h."""
        scale = self.scale(u)
        return self.problem.log_density()(u / scale) - jnp.log(scale).sum()

    def constrain(self, u: ArrayLike) -> dict[str, jax.Array]:
        """The program's sites at u."""
        return self.problem.log_density().constrain(u / self.scale(u))


class LinearisedModel:
    """The functions of (w, h) that expectation maximisation needs, compiled once.

    The data are arguments of the compiled functions: as constants XLA would try to fold products with them.
    """

    def __init__(self, problem: Problem, weights: np.ndarray, noise: np.ndarray) -> None:
        self.problem, self.noise = problem, noise
        self.layers = problem.structure_as(LayeredNetwork)
        self.join = functools.partial(merge, np.flatnonzero(weights), np.flatnonzero(~weights))
        self.mode_of_w = jax.jit(jax.value_and_grad(self.true))
        self.mode_of_h = jax.jit(jax.value_and_grad(self.expected))
        self.gradient_in_w = jax.jit(jax.grad(self.linear))
        self.curvature = compiled_hessian(self.linear)
        self.constrain = jax.jit(lambda w, h: WeightDensity(problem).constrain(self.join(w, h)))

    def true(self, w: ArrayLike, h: ArrayLike, data: tuple) -> jax.Array:
        """-log p(y, w, h)."""
        return -WeightDensity(dataclasses.replace(self.problem, args=data))(self.join(w, h))

    def linear(self, w: ArrayLike, h: ArrayLike, expansion: dict, data: tuple) -> jax.Array:
        """The same with the network linearised."""
        posed = dataclasses.replace(
            self.problem, program=self.layers.linearize(expansion), args=data
        )
        return -WeightDensity(posed)(self.join(w, h))

    def expected(self, h: ArrayLike, draws: ArrayLike, expansion: dict, data: tuple) -> jax.Array:
        """-E_q[log p(y, w, h)] over draws of w."""
        return jax.vmap(lambda w: self.linear(w, h, expansion, data))(draws).mean()

    def expand(self, w: np.ndarray, h: np.ndarray) -> dict[str, np.ndarray]:
        """The sites at (w, h), around which the network is linearised."""
        return jax.tree.map(np.asarray, self.constrain(w, h))

    def posterior_of_w(
        self, w: np.ndarray, h: np.ndarray, expansion: dict
    ) -> tuple[np.ndarray, np.ndarray]:
        """A root of A^-1, and draws from N(w*, A^-1), with w* one Newton step from w: exact in the linearised model."""
        root = inverse_root(self.curvature(w, h, expansion, self.problem.args))
        gradient = np.asarray(self.gradient_in_w(w, h, expansion, self.problem.args))
        return root, w - root @ (root.T @ gradient) + self.noise @ root.T

    def root_of_h(self, w: np.ndarray, h: np.ndarray, expansion: dict) -> np.ndarray:
        """R with R R' the covariance of h: from the evidence, or from the curvature at fixed q, which is too sure of h.

        The second is for more than `MANY` sites h, and where the evidence has not the curvature of a maximum.
        """
        if h.size <= MANY:
            with contextlib.suppress(ProblemError):
                return inverse_root(self.evidence_hessian(w, h, expansion))
        _, draws = self.posterior_of_w(w, h, expansion)
        return inverse_root(compiled_hessian(self.expected)(h, draws, expansion, self.problem.args))

    def evidence_hessian(self, w: np.ndarray, h: np.ndarray, expansion: dict) -> np.ndarray:
        """Minus the Hessian in h of the Laplace evidence, by central differences of its gradient.

        By Fisher's identity the gradient at h is that of E_q[log p(y, w, h)] under q = p(w | y, h), so how q moves with
        h is in it.
        """

        def gradient(h: np.ndarray) -> np.ndarray:
            _, draws = self.posterior_of_w(w, h, expansion)
            return np.asarray(self.mode_of_h(h, draws, expansion, self.problem.args)[1])

        steps = 1e-2 * np.eye(h.size)
        matrix = np.stack([(gradient(h + step) - gradient(h - step)) / 2e-2 for step in steps])
        return (matrix + matrix.T) / 2


def normal(loc: np.ndarray, root: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters of N(loc, root root')."""
    return {"loc": loc, "covariance_root": root, "log_det_root": np.linalg.slogdet(root)[1]}


def merge(i: np.ndarray, j: np.ndarray, w: ArrayLike, h: ArrayLike) -> jax.Array:
    """The vector with w at positions i and h at positions j."""
    return jnp.zeros(len(i) + len(j)).at[i].set(w).at[j].set(h)


def weight_mask(problem: Problem, u: Float[np.ndarray, "size"]) -> Bool[np.ndarray, "size"]:
    """Which entries of the flat vector belong to weights."""
    density, weights = problem.log_density(), problem.structure_as(LayeredNetwork).weights
    sites = density.unravel(jnp.asarray(u))
    return np.asarray(
        density.ravel(
            {name: jnp.full_like(value, name in weights) for name, value in sites.items()}
        ),
        bool,
    )


def compiled_hessian(function: Callable) -> Callable[..., np.ndarray]:
    """The Hessian in the first argument, column by column in bounded memory."""

    def columns(u: ArrayLike, basis: ArrayLike, *fixed: Any) -> jax.Array:
        gradient = jax.grad(lambda u: function(u, *fixed))
        return jax.lax.map(lambda e: jax.jvp(gradient, (u,), (e,))[1], basis, batch_size=32)

    compiled = jax.jit(columns)

    def symmetric(u: np.ndarray, *fixed: Any) -> np.ndarray:
        matrix = np.asarray(
            compiled(u, np.eye(u.size), *fixed)
        )  # an argument: as a constant it would be folded
        return (matrix + matrix.T) / 2

    return symmetric


def inverse_root(precision: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """R with R R' = precision^-1.

    Raises:
        ProblemError: where the precision is not positive definite, so that there is no normal approximation.
    """
    import scipy.linalg

    try:
        lower = np.linalg.cholesky(precision)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(precision)[0]
        raise ProblemError(
            f"The log density has no proper maximum: the smallest curvature at the mode is {smallest:.3g}. "
            "Laplace cannot describe this posterior; use NUTS() or VI()."
        ) from None
    return scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True).T


def draw(density: LogDensity | WeightDensity, key: jax.Array, params: dict) -> dict[str, Any]:
    """One draw of the program's sites."""
    noise = jax.random.normal(key, params["loc"].shape)
    return density.constrain(params["loc"] + params["covariance_root"] @ noise)


def log_weight(density: LogDensity | WeightDensity, key: jax.Array, params: dict) -> jax.Array:
    """Log p(y, z) - log q(z) at one draw; for networks p is the linearised program."""
    noise = jax.random.normal(key, params["loc"].shape)
    u = params["loc"] + params["covariance_root"] @ noise
    log_q = jax.scipy.stats.norm.logpdf(noise).sum() - params["log_det_root"]
    return density(u) - log_q
