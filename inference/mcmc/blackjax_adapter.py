"""The only file that knows BlackJAX: Pathfinder, and the microcanonical samplers with tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.problem import LogDensity
from inference.core.typing import Key, PyTree

# draws per step of L-BFGS, to choose the step with the largest ELBO
PATHFINDER_DRAWS = 20

# BlackJAX tunes in stages of a tenth of the number of steps that it is given: the unadjusted
# sampler takes 10/3 such stages, the adjusted one 3
TENTHS, TENTHS_ADJUSTED = 10 / 3, 3


class Microcanonical(NamedTuple):
    """The state of one microcanonical chain.

    Attributes:
        chain: BlackJAX's state; it has `position` and `logdensity`.
        tuned: the momentum decoherence length L, the step size, and the diagonal of the inverse
            mass matrix.
        key: the random key for the next step.
        accept: the acceptance probability of the last step; adjusted chains only.
        diverging: whether the last step was not finite and was undone.
        energy_error: the energy error of the last step; unadjusted chains only.
        num_steps: the number of leapfrog steps in the last step; adjusted chains only.
    """

    chain: Any
    tuned: Any
    key: Key
    accept: jax.Array
    diverging: jax.Array
    energy_error: jax.Array
    num_steps: jax.Array


def pathfinder_draw(density: LogDensity, start: jax.Array, key: Key) -> jax.Array:
    """Draw from the best normal approximation that L-BFGS passes on its way from `start`."""
    from blackjax.vi import pathfinder

    search, draw = jax.random.split(key)
    # BlackJAX relies on rank promotion here
    with jax.numpy_rank_promotion("allow"):
        state, _ = pathfinder.approximate(
            search, density, start, num_samples=PATHFINDER_DRAWS, maxiter=100
        )
    drawn: Any = pathfinder.sample(draw, state)
    return drawn[0]


def tune_mclmc(density: LogDensity, start: jax.Array, key: Key, num_warmup: int) -> Microcanonical:
    """Start a chain of unadjusted MCLMC.

    Its L, step size and mass matrix are tuned in `num_warmup` steps.
    """
    import blackjax

    begin, tune, run = jax.random.split(key, 3)
    chain, tuned, _ = blackjax.mclmc_find_L_and_step_size(
        blackjax.mclmc.build_kernel(),
        round(num_warmup * 10 / TENTHS),
        blackjax.mclmc.init(start, density, begin),
        tune,
        density,
    )
    return _initial_state(chain, tuned, run)


def _initial_state(chain: PyTree, tuned: PyTree, key: Key) -> Microcanonical:
    """Return the state of a tuned chain before its first step."""
    return Microcanonical(
        chain, tuned, key, jnp.ones(()), jnp.zeros((), bool), jnp.zeros(()), jnp.ones((), int)
    )


def step_mclmc(density: LogDensity, state: Microcanonical) -> Microcanonical:
    """Make one step of unadjusted MCLMC."""
    import blackjax

    key, now = jax.random.split(state.key)
    L, step_size, metric = state.tuned
    chain, info = blackjax.mclmc.build_kernel()(now, state.chain, density, metric, L, step_size)
    return state._replace(
        chain=chain, key=key, diverging=~info.nonans, energy_error=info.energy_change
    )


def _build_adjusted_kernel() -> Callable:
    """Build the kernel of adjusted MCLMC with a random number of steps per trajectory."""
    from blackjax.mcmc import adjusted_mclmc_dynamic as dynamic

    return dynamic.build_kernel(dynamic.make_random_trajectory_length_fn(True))


def tune_adjusted_mclmc(
    density: LogDensity, start: jax.Array, key: Key, num_warmup: int, target_accept: float
) -> Microcanonical:
    """Start a chain of adjusted MCLMC.

    Its L, step size and mass matrix are tuned in `num_warmup` trajectories.
    """
    import blackjax
    from blackjax.mcmc import adjusted_mclmc_dynamic as dynamic

    begin, tune, run = jax.random.split(key, 3)
    chain, tuned, _ = blackjax.adjusted_mclmc_find_L_and_step_size(
        _build_adjusted_kernel(),
        density,
        round(num_warmup * 10 / TENTHS_ADJUSTED),
        dynamic.init(start, density, begin),
        tune,
        target_accept,
    )
    return _initial_state(chain, tuned, run)


def step_adjusted_mclmc(density: LogDensity, state: Microcanonical) -> Microcanonical:
    """Make one trajectory of adjusted MCLMC, and accept or reject it."""
    key, now = jax.random.split(state.key)
    L, step_size, metric = state.tuned
    chain, info = _build_adjusted_kernel()(
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
