"""The one place that knows BlackJAX: Pathfinder, and the microcanonical samplers with their tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PATHFINDER_DRAWS = 20  # per step of L-BFGS, for choosing the step with the largest ELBO
# BlackJAX tunes in stages of a tenth of the steps that it is told: unadjusted 3 and a third of them, adjusted 3
TENTHS, TENTHS_ADJUSTED = 10 / 3, 3


class Microcanonical(NamedTuple):
    """The state of one microcanonical chain.

    Attributes:
        chain: BlackJAX's state.
        tuned: momentum decoherence length L, step size and the diagonal of the inverse mass matrix.
        key: for the next step.
        accept: acceptance probability of the last step; adjusted chains only.
        diverging: whether the last step was not finite and was undone.
        energy_error: its energy error; unadjusted chains only.
        num_steps: its leapfrog steps; adjusted chains only.
    """

    chain: Any
    tuned: Any
    key: jax.Array
    accept: jax.Array
    diverging: jax.Array
    energy_error: jax.Array
    num_steps: jax.Array


def pathfinder_draw(density: Callable, start: jax.Array, key: jax.Array) -> jax.Array:
    """A draw from the best normal approximation on the way of L-BFGS from `start`."""
    from blackjax.vi import pathfinder

    search, draw = jax.random.split(key)
    with jax.numpy_rank_promotion("allow"):  # BlackJAX relies on it here
        state, _ = pathfinder.approximate(
            search, density, start, num_samples=PATHFINDER_DRAWS, maxiter=100
        )
    drawn: Any = pathfinder.sample(draw, state)
    return drawn[0]


def tune_mclmc(
    density: Callable, start: jax.Array, key: jax.Array, num_warmup: int
) -> Microcanonical:
    """A chain of unadjusted MCLMC whose L, step size and mass matrix `num_warmup` steps have tuned."""
    import blackjax

    begin, tune, run = jax.random.split(key, 3)
    chain, tuned, _ = blackjax.mclmc_find_L_and_step_size(
        blackjax.mclmc.build_kernel(),
        round(num_warmup * 10 / TENTHS),
        blackjax.mclmc.init(start, density, begin),
        tune,
        density,
    )
    return initial_state(chain, tuned, run)


def initial_state(chain: Any, tuned: Any, key: jax.Array) -> Microcanonical:
    """The state of a tuned chain."""
    return Microcanonical(
        chain, tuned, key, jnp.ones(()), jnp.zeros((), bool), jnp.zeros(()), jnp.ones((), int)
    )


def step_mclmc(density: Callable, state: Microcanonical) -> Microcanonical:
    """One step of unadjusted MCLMC."""
    import blackjax

    key, now = jax.random.split(state.key)
    L, step_size, metric = state.tuned
    chain, info = blackjax.mclmc.build_kernel()(now, state.chain, density, metric, L, step_size)
    return state._replace(
        chain=chain, key=key, diverging=~info.nonans, energy_error=info.energy_change
    )


def build_adjusted_kernel() -> Callable:
    """The kernel of adjusted MCLMC with a random number of steps per trajectory."""
    from blackjax.mcmc import adjusted_mclmc_dynamic as dynamic

    return dynamic.build_kernel(dynamic.make_random_trajectory_length_fn(True))


def tune_adjusted_mclmc(
    density: Callable, start: jax.Array, key: jax.Array, num_warmup: int, target_accept: float
) -> Microcanonical:
    """A chain of adjusted MCLMC whose L, step size and mass matrix `num_warmup` trajectories have tuned."""
    import blackjax
    from blackjax.mcmc import adjusted_mclmc_dynamic as dynamic

    begin, tune, run = jax.random.split(key, 3)
    chain, tuned, _ = blackjax.adjusted_mclmc_find_L_and_step_size(
        build_adjusted_kernel(),
        density,
        round(num_warmup * 10 / TENTHS_ADJUSTED),
        dynamic.init(start, density, begin),
        tune,
        target_accept,
    )
    return initial_state(chain, tuned, run)


def step_adjusted_mclmc(density: Callable, state: Microcanonical) -> Microcanonical:
    """One trajectory of adjusted MCLMC, accepted or not."""
    key, now = jax.random.split(state.key)
    L, step_size, metric = state.tuned
    chain, info = build_adjusted_kernel()(
        now,
        state.chain,
        density,
        step_size,
        inverse_mass_matrix=metric,
        integration_steps_params=(L / step_size,),
    )
    return state._replace(
        chain=chain,
        key=key,
        accept=info.acceptance_rate,
        diverging=info.is_divergent,
        num_steps=info.num_integration_steps,
    )
