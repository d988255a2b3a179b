"""The optimiser that matches the numbers of a prior to functions.

    minimise over psi   D(f, g) + pull E|g - g'| |psi - psi_0|^2,
    f = f(X; w), w ~ p(w; psi),   g ~ target at X

by Adam on unconstrained psi, with new points X and new functions at each step. The weak pull
towards the numbers at the start settles directions along which functions hardly change, such as
ever larger weights of ever sharper units.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import ModelError
from bayesdl.functional.draws import FunctionSampler
from bayesdl.functional.dual import wasserstein
from bayesdl.functional.losses import LOSSES, mean_distance
from bayesdl.functional.measure import PointSampler
from bayesdl.functional.targets import AbstractTarget
from inference.core.keys import tagged_key
from inference.core.progress import AbstractProgress
from inference.core.typing import Key, Params, SiteArrays
from inference.settings import is_whole

# steps that are compiled together
BLOCK = 20
WASSERSTEIN = "wasserstein"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimiser.

    Attributes:
        loss: the name of the distance between functions.
        num_functions: the number of functions drawn of each side per step.
        steps: the number of steps.
        learning_rate: Adam's learning rate at the start; it decays to zero along a cosine.
        pull: the weight of the squared distance from the numbers at the start.
    """

    loss: str
    num_functions: int
    steps: int
    learning_rate: float
    pull: float


def optimizer_config(
    loss: object, steps: object, num_functions: object, learning_rate: float, pull: float
) -> OptimizerConfig:
    """Check the settings of the optimiser, as users give them.

    Raises:
        ModelError: for settings that make no sense.
    """
    if loss not in (*LOSSES, WASSERSTEIN):
        allowed = ", ".join(map(repr, (*LOSSES, WASSERSTEIN)))
        raise ModelError(f"loss={loss!r}: expected one of {allowed}.")
    for name, value, least in (("steps", steps, 1), ("num_functions", num_functions, 2)):
        if not is_whole(value, least):
            raise ModelError(f"{name}={value!r}: expected a whole number, at least {least}.")
    if not learning_rate > 0:
        raise ModelError(f"learning_rate={learning_rate!r}: expected a positive number.")
    if not pull >= 0:
        raise ModelError(f"pull={pull!r}: expected a number of at least 0.")
    return OptimizerConfig(loss, num_functions, steps, learning_rate, pull)  # pyright: ignore


def optimise(
    config: OptimizerConfig,
    sampler: FunctionSampler,
    origin: SiteArrays,
    parameters: SiteArrays,
    target: AbstractTarget,
    points: PointSampler,
    rng: np.random.Generator,
    key: Key,
    progress: AbstractProgress,
) -> SiteArrays:
    """Run all steps, in compiled blocks.

    Args:
        config: the settings of the optimiser.
        sampler: the sampler of the network's functions.
        origin: the parameters towards which the pull goes.
        parameters: the parameters to begin with.
        target: the target of the functions.
        points: the sampler of points at which functions are compared.
        rng: the random numbers of the points.
        key: the key of all functions.
        progress: the progress bar.

    Returns:
        The parameters after the last step.

    Raises:
        ModelError: where they are not finite.
    """
    import optax

    state = optax.scale_by_adam().init(parameters)
    numbers = {
        name: jnp.asarray(float(getattr(config, name)))
        for name in ("steps", "learning_rate", "pull")
    }
    num = config.num_functions * (2 if config.loss == WASSERSTEIN else 1)
    progress.start(config.steps, "matching")
    try:
        for done in range(0, config.steps, BLOCK):
            count = min(BLOCK, config.steps - done)
            X = points.draw(rng, BLOCK)
            draws, *keys = jax.random.split(jax.random.fold_in(key, done), 1 + BLOCK)
            g = target.draw(draws, X, num).reshape(BLOCK, num, -1)
            parameters, state, values = _run_block(
                config.loss,
                config.num_functions,
                sampler,
                numbers,
                origin,
                parameters,
                state,
                jnp.stack(keys),
                jnp.asarray(done),
                jnp.asarray(count),
                jnp.asarray(X, float),
                jnp.asarray(g, float),
            )
            progress.advance(count, distance=f"{float(values[:count].mean()):.4g}")
    finally:
        progress.close()
    if not all(np.isfinite(np.asarray(array)).all() for array in jax.tree.leaves(parameters)):
        raise ModelError(
            "Matching diverged: the prior's numbers are not finite. Lower learning_rate."
        )
    return parameters


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run_block(
    loss_name: str,
    num_functions: int,
    sampler: FunctionSampler,
    numbers: dict[str, jax.Array],
    origin: SiteArrays,
    parameters: SiteArrays,
    state: Params,
    keys: Key,
    done: jax.Array,
    count: jax.Array,
    X: jax.Array,
    g: jax.Array,
) -> tuple[SiteArrays, Params, jax.Array]:
    """Run `count` steps after the first `done`, each with its own points and functions.

    Args:
        loss_name: the name of the distance.
        num_functions: the number of functions of the network per step.
        sampler: the sampler of the network's functions.
        numbers: the optimiser's settings "steps", "learning_rate" and "pull".
        origin: the parameters towards which the pull goes.
        parameters: the parameters so far.
        state: the state of Adam so far.
        keys: a key for each step.
        done: the number of steps so far.
        count: the number of steps to run, at most the number of keys.
        X: the points of each step, shape (steps, points, ...).
        g: the target's functions of each step, shape (steps, functions, values).

    Returns:
        Parameters, state, and the loss of each step.
    """
    import optax

    optimizer = optax.scale_by_adam()

    def distance(parameters: SiteArrays, key: Key, X: jax.Array, g: jax.Array) -> jax.Array:
        if loss_name == WASSERSTEIN:
            return wasserstein(
                lambda k: sampler.sample_many(parameters, X, k, num_functions), g, key
            )
        f = sampler.sample_many(parameters, X, tagged_key(key, "functions"), num_functions)
        return LOSSES[loss_name](f, g, tagged_key(key, "loss"))

    def loss(parameters: SiteArrays, key: Key, X: jax.Array, g: jax.Array) -> jax.Array:
        away = sum(((parameters[name] - value) ** 2).sum() for name, value in origin.items())
        return distance(parameters, key, X, g) + numbers["pull"] * mean_distance(g) * away

    def step(i: jax.Array, carry: tuple) -> tuple:
        parameters, state, values = carry
        value, gradient = jax.value_and_grad(loss)(parameters, keys[i], X[i], g[i])
        updates, state = optimizer.update(gradient, state, parameters)
        rate = numbers["learning_rate"] * (1 + jnp.cos(jnp.pi * (done + i) / numbers["steps"])) / 2
        moved = jax.tree.map(lambda p, u: p - rate * u, parameters, updates)
        return moved, state, values.at[i].set(value)

    return jax.lax.fori_loop(0, count, step, (parameters, state, jnp.zeros(len(X))))
