"""Variational inference: the normal distribution in unconstrained space that maximises the evidence lower bound,

    ELBO(q) = E_q[log p(y, z) - log q(z)] <= log p(y).

The covariance of q is diagonal (mean-field), diagonal plus low rank, or full. Guides are NumPyro's autoguides and the
optimiser is Adam (optax) with a cosine decay. References: Kucukelbir et al. (2017), arXiv:1603.00788; Ong, Nott and
Smith (2018), arXiv:1701.03208.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, autoguide
from numpyro.infer.initialization import init_to_sample
from numpyro.infer.util import log_density
from numpyro.optim import optax_to_numpyro

from inference.engine import AbstractEngine, choice, needs_gradients, positive, positive_integers
from inference.keys import named
from inference.problem import Problem, ProblemError
from inference.progress import AbstractProgress, Silent
from inference.result import Approximation

GUIDES: dict[str, Callable] = {
    "mean-field": autoguide.AutoDiagonalNormal,
    "low-rank": autoguide.AutoLowRankMultivariateNormal,
    "full-rank": autoguide.AutoMultivariateNormal,
}
BLOCKS = 20


@dataclasses.dataclass(frozen=True)
class VI(AbstractEngine):
    """Variational inference with a normal guide (Kucukelbir et al. 2017, arXiv:1603.00788).

    Attributes:
        guide: "mean-field", "low-rank" or "full-rank".
        num_steps: optimiser steps.
        learning_rate: Adam's at the start; it decays to zero along a cosine.
        num_particles: draws of z per step.
        batch_size: rows per step, or None for all of them; the program needs a plate over its data.
        rank: of the low-rank guide, or None for the square root of the dimension.
        initial_scale: standard deviation of q at the start.

    Example:
        >>> VI(guide="full-rank").num_steps
        10000
    """

    guide: str = "mean-field"
    num_steps: int = 10_000
    learning_rate: float = 0.01
    num_particles: int = 1
    batch_size: int | None = None
    rank: int | None = None
    initial_scale: float = 0.05

    def __post_init__(self) -> None:
        choice(self, "guide", tuple(GUIDES))
        positive(self, "learning_rate", "initial_scale")
        positive_integers(self, "num_steps", "num_particles")
        positive_integers(self, "batch_size", "rank", optional=True)

    def supports(self, problem: Problem) -> str | None:
        return needs_gradients(problem)

    def infer(self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()) -> Approximation:
        started = time.perf_counter()
        guide = self.set_up(problem, named(key, "start"))
        params, losses = self.optimise(problem, guide, key, progress)
        ends = max(1, self.num_steps // 20)
        first, last = losses[:ends].mean(), losses[-ends:].mean()
        if not (np.isfinite(last) and last <= first):
            raise ProblemError(
                f"VI diverged: the ELBO went from {-first:.4g} to {-last:.4g} in {self.num_steps} steps. Lower learning_rate "
                f"(now {self.learning_rate}), raise num_particles (now {self.num_particles}), or use guide='mean-field'."
            )
        return self.approximation(problem, guide, params, losses, {"seconds": time.perf_counter() - started})

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Approximation:
        params = {k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")}
        return self.approximation(problem, self.set_up(problem, jax.random.key(0)), params, arrays["losses"], info)

    def set_up(self, problem: Problem, key: jax.Array) -> Any:
        """The guide for this problem, its shapes known and its location a draw from the prior."""
        extra = {"rank": self.rank} if self.guide == "low-rank" else {}
        guide = GUIDES[self.guide](problem.program, init_loc_fn=init_to_sample, init_scale=self.initial_scale, **extra)
        with handlers.seed(rng_seed=key):
            guide(*problem.args, **problem.kwargs)
        return guide

    def optimise(self, problem: Problem, guide: Any, key: jax.Array, progress: AbstractProgress) -> tuple:
        """Adam in compiled blocks of steps; gives the parameters and the losses."""
        import optax

        batched = problem.minibatch(self.batch_size) if self.batch_size is not None else problem
        adam = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.num_steps))
        svi = SVI(batched.program, guide, optax_to_numpyro(adam), Trace_ELBO(num_particles=self.num_particles))
        size = -(-self.num_steps // BLOCKS)

        def step(state: Any, _: None) -> Any:
            return svi.update(state, *problem.args, **problem.kwargs)

        block = jax.jit(lambda state: jax.lax.scan(step, state, length=size))
        state, losses = svi.init(named(key, "steps"), *problem.args, **problem.kwargs), []
        progress.start(self.num_steps, "VI")
        try:
            for done in range(0, self.num_steps, size):
                state, values = block(state)
                losses.append(np.asarray(values))
                progress.advance(min(size, self.num_steps - done), elbo=f"{-values.mean():.4g}")
        finally:
            progress.close()
        return jax.tree.map(np.asarray, svi.get_params(state)), np.concatenate(losses)

    def approximation(self, problem: Problem, guide: Any, params: dict, losses: np.ndarray, info: dict) -> Approximation:
        return Approximation(
            params,
            draw=functools.partial(draw, problem, guide),
            log_weight=functools.partial(log_weight, problem, guide),
            losses=losses,
            info=info,
        )


def draw(problem: Problem, guide: Any, key: jax.Array, params: dict) -> dict[str, jax.Array]:
    """One draw of the program's latent and deterministic sites from the guide."""
    return guide.sample_posterior(key, params)


def log_weight(problem: Problem, guide: Any, key: jax.Array, params: dict) -> jax.Array:
    """Log p(y, z) - log q(z) at one draw z ~ q."""
    seeded = handlers.seed(guide, key)
    log_q, trace = log_density(seeded, problem.args, dict(problem.kwargs), params)
    program = handlers.replay(handlers.seed(problem.program, key), trace)
    log_p, _ = log_density(program, problem.args, dict(problem.kwargs), {})
    return jnp.asarray(log_p - log_q)
