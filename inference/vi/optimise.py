"""The optimisation of an expectation's parameters, in compiled blocks of steps."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.program import Subsampled
from inference.core.progress import AbstractProgress
from inference.core.typing import Key, Params, Program, StoredArrays
from inference.vi.constructs import Marginal
from inference.vi.distributions import AbstractProgramDistribution
from inference.vi.expectation import Expectation
from inference.vi.parameters import Space, flatten_params

if TYPE_CHECKING:
    import optax

    Optimizer: TypeAlias = optax.GradientTransformation
else:
    Optimizer = object

# blocks of a run, between which progress is reported
BLOCKS = 50

# the rate of the moving averages that are baselines
AVERAGE_RATE = 0.1

# Adam's memory of squared gradients: with the usual 0.999 a first gradient that is large by orders
# of magnitude keeps the steps tiny for thousands of them
MEMORY = 0.99


def make_optimizer(
    optimizer: Optimizer | None, learning_rate: float, steps: int, names: Iterable[str]
) -> Optimizer:
    """Make the optimiser for the parameters; learned baselines get a separate one.

    Args:
        optimizer: an optax optimiser, or None for Adam.
        learning_rate: Adam's learning rate at the start; it decays to zero along a cosine.
        steps: the number of steps.
        names: the names of the parameters.
    """
    import optax

    main = optimizer
    if main is None:
        main = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b2=MEMORY)
    labels = {name: "average" if name.startswith("baseline/") else "main" for name in names}
    if "average" not in labels.values():
        return main
    return optax.partition({"main": main, "average": optax.sgd(AVERAGE_RATE)}, labels)


def _make_minibatches(
    problem: Problem, batch_size: int | None
) -> Callable[[Expectation, Key], Expectation]:
    """Return the map from an expectation and a key to the expectation on random rows.

    The rows are the same for model and guide.

    Raises:
        ProblemError: if the program has not exactly one plate over its data, or does not take its
            rows by it.
    """
    if batch_size is None:
        return lambda expectation, key: expectation
    problem.minibatch(batch_size)
    name, total = problem.data_plate

    def on_random_rows(expectation: Expectation, key: Key) -> Expectation:
        rows = jax.random.randint(key, (batch_size,), 0, total)

        def on_rows(program: Program) -> Program:
            return Subsampled(program, name, batch_size, rows)

        return dataclasses.replace(
            expectation,
            p=wrap_programs(expectation.p, on_rows),
            q=wrap_programs(expectation.q, on_rows),
        )

    return on_random_rows if batch_size < total else lambda expectation, key: expectation


def wrap_programs(
    distribution: AbstractProgramDistribution, wrap: Callable[[Program], Program]
) -> AbstractProgramDistribution:
    """Return a distribution with its programs wrapped."""
    one: Any = distribution
    if isinstance(one, Marginal) and one.reverse is not None:
        return dataclasses.replace(one, program=wrap(one.program), reverse=wrap(one.reverse))
    return dataclasses.replace(one, program=wrap(one.program))


def maximise(
    expectation: Expectation,
    problem: Problem,
    space: Space,
    values: dict[str, Any],
    key: Key,
    progress: AbstractProgress,
    *,
    optimizer: Optimizer,
    steps: int,
    batch_size: int | None,
    patience: int | None,
) -> tuple[StoredArrays, np.ndarray, int]:
    """Maximise the expectation of an objective.

    Args:
        expectation: the expectation.
        problem: the problem, whose data model and guide are called with.
        space: the space of the parameters.
        values: the parameters at the start.
        key: the random key for rows and draws.
        progress: what shows how far the run is.
        optimizer: an optax optimiser.
        steps: the number of steps.
        batch_size: the number of rows per step, or None for all.
        patience: the number of steps without a new best after which to stop, or None.

    Returns:
        The flat parameters, the objective at each step, and the number of steps made.
    """
    import optax

    data = (problem.args, dict(problem.kwargs))
    minibatches = _make_minibatches(problem, batch_size)
    size = -(-steps // BLOCKS)
    update: Any = optimizer

    def loss(u: Params, i: jax.Array, key: Key) -> jax.Array:
        seen = minibatches(expectation, named_key(key, "rows"))
        return -seen.at_step(i, named_key(key, "draws"), space.constrain(u), *data)

    def step(j: jax.Array, carry: tuple) -> tuple:
        u, state, first, values = carry
        i = first + j
        step_key = jax.random.fold_in(named_key(key, "steps"), i)
        value, gradient = jax.value_and_grad(loss)(u, i, step_key)
        updates, state = update.update(gradient, state, u)
        return optax.apply_updates(u, updates), state, first, values.at[j].set(-value)

    @jax.jit
    def block(u: Params, state: Params, first: jax.Array, count: jax.Array) -> tuple:
        return jax.lax.fori_loop(0, count, step, (u, state, first, jnp.zeros(size)))

    u = space.unconstrain(values)
    state, history, best, made = update.init(u), [], (-np.inf, 0), 0
    progress.start(steps, "VI")
    try:
        for done in range(0, steps, size):
            count = min(size, steps - done)
            u, state, _, found = block(u, state, jnp.asarray(done), jnp.asarray(count))
            history.append(np.asarray(found)[:count])
            mean, made = float(history[-1].mean()), done + count
            progress.advance(count, objective=f"{mean:.4g}")
            best = max(best, (mean, made))
            if patience is not None and made - best[1] >= patience:
                break
    except KeyboardInterrupt:
        if not history:
            raise
        progress.stopped()
    finally:
        progress.close()
    return flatten_params(space.constrain(u)), np.concatenate(history), made


def warn_of_fall(history: np.ndarray, length: int) -> None:
    """Warn of a bound that was better than it is at the end.

    Args:
        history: the objective at each step.
        length: the number of steps over which means are compared.
    """
    length = min(length, len(history))
    windows = history[: len(history) // length * length].reshape(-1, length)
    best, last = windows[windows.mean(1).argmax()], history[-length:]
    if best.mean() - last.mean() > 4 * np.hypot(best.std(), last.std()) / np.sqrt(length):
        warnings.warn(
            f"VI: the objective fell from {best.mean():.4g} to {last.mean():.4g} at the end: "
            "lower learning_rate, or stop early with patience.",
            stacklevel=4,
        )
