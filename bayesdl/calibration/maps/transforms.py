"""How predictions turned out: levels of the targets, or probabilities of the labels.

Without held-out rows they are those of leave-one-out, from the draws z_s of the one fit:

    u_i = sum_s w_is F(y_i | x_i, z_s),    w_is ~ p(y_i | x_i, z_s)^(-1/T), Pareto-smoothed

so that row i has no say in its own prediction; T is the temperature of the draws.
(Vehtari, Gelman and Gabry 2017, arXiv:1507.04544.)
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from bayesdl.checks.densities import log_likelihoods_and_levels
from bayesdl.checks.scores import probability_integral_transform
from bayesdl.data.validation import ModelError
from bayesdl.interop.pareto import smoothed_weights
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.posterior.streaming import label_probabilities
from inference.core.result import Conditional
from inference.wrappers import marginal_cdf, unmasked

# training rows that are left out one by one; more cost time and gain little
MOST_ROWS = 3000
# above which the weights of a row cannot be trusted
PARETO_LIMIT = 0.7


class Outcome(NamedTuple):
    """How predictions turned out.

    Attributes:
        levels: F(y_i), of counts drawn inside the step; empty for classes.
        probs: the probabilities of classes, shape (rows, classes); empty for numbers.
        labels: the indices of the labels; empty for numbers.
        notes: what a user should know of them.
    """

    levels: np.ndarray
    probs: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()


EMPTY = np.zeros(0)


def of_held_out(prediction: AbstractPrediction, target: np.ndarray, seed: int) -> Outcome:
    """Return how predictions of held-out rows turned out.

    Args:
        prediction: the prediction of the rows.
        target: the targets in their units, or the indices of labels.
        seed: the seed of levels inside steps.
    """
    if prediction.target.kind == "class":
        return Outcome(EMPTY, prediction.probs, target)
    return Outcome(probability_integral_transform(prediction, target, seed), EMPTY, EMPTY)


def of_training_rows(posterior: AbstractPosterior, seed: int) -> Outcome:
    """Return how predictions of training rows turned out, each by the other rows.

    Args:
        posterior: the posterior, with draws.
        seed: the seed of levels inside steps, and of the choice among many rows.

    Raises:
        ModelError: for a posterior without draws, or rows that cannot be left out.
    """
    _need_draws(posterior)
    target = posterior.model.target(posterior.schema, posterior.problem)
    rng = np.random.default_rng(seed)
    if posterior.model.rows_are_independent and not posterior.model.rows_correlated:
        found, y = _of_table(posterior, target.kind == "class", rng)
    elif target.kind == "real":
        found, y = _of_program(posterior), EMPTY
    else:
        raise ModelError(
            f"{posterior!r}: leave-one-out of counts or classes is for models of tables whose rows "
            "are independent. Give held-out rows: post.recalibrate(X, y)."
        )
    # draws of p(z | y)^(1 / T) hold each row to the power 1 / T
    ratios = -np.asarray(found[0], np.float64).T / posterior.raw.temperature
    weights, k = smoothed_weights(ratios)
    weights = np.exp(weights)
    bad = int(np.sum(k > PARETO_LIMIT))
    notes = (
        (
            f"{bad} of {len(k)} rows have Pareto k above {PARETO_LIMIT}: without such a row the "
            "posterior is another one, and its level is a guess.",
        )
        if bad
        else ()
    )
    parts = [np.einsum("ns,sn...->n...", weights, np.asarray(p, np.float64)) for p in found[1:]]
    if target.kind == "class":
        probs = parts[0] / parts[0].sum(1, keepdims=True)
        return Outcome(EMPTY, probs, y.astype(int), notes)
    upper = np.clip(parts[0], 0.0, 1.0)
    if target.kind == "count":
        upper = parts[1] + rng.uniform(size=upper.shape) * (upper - parts[1])
    return Outcome(upper, EMPTY, EMPTY, notes)


def _need_draws(posterior: AbstractPosterior) -> None:
    """Refuse posteriors without draws, rows with weights, and several targets.

    Raises:
        ModelError: saying that held-out rows are needed.
    """
    stream = posterior.predict().stream
    weighted = posterior.model.rows_are_independent and "weights" in posterior.problem.kwargs
    if not stream.draws or not stream.traceable or weighted:
        why = "its rows have weights" if weighted else "it has no draws"
        raise ModelError(
            f"{posterior!r} cannot be recalibrated by leave-one-out, as {why}: give held-out rows, "
            "post.recalibrate(X, y)."
        )


def _of_table(
    posterior: AbstractPosterior, is_class: bool, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return log densities, and levels or probabilities, at all draws; and the targets."""
    whole = posterior.predict().stream
    rows = len(posterior.problem.args[0])
    chosen = np.arange(rows)
    if rows > MOST_ROWS:
        chosen = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
    args = tuple(np.asarray(arg)[chosen] for arg in whole.args)
    stream = dataclasses.replace(whole, args=args, num_rows=len(chosen), batch_size=256)
    y = np.asarray(posterior.problem.args[1])[chosen]
    try:
        return stream.map(_class_levels if is_class else _levels, y, axis=1), y
    except NotImplementedError:
        raise _no_levels(posterior) from None


def _of_program(posterior: AbstractPosterior) -> tuple[np.ndarray, ...]:
    """Return log densities and levels at all draws, of a program or of rows that vary together."""
    try:
        return log_likelihoods_and_levels(posterior)
    except NotImplementedError:
        raise _no_levels(posterior) from None


def _no_levels(posterior: AbstractPosterior) -> ModelError:
    """Return the error for a likelihood without a distribution function."""
    return ModelError(
        f"{posterior!r}: its likelihood has no distribution function, which leave-one-out needs. "
        "Give held-out rows: post.recalibrate(X, y)."
    )


def _levels(conditionals: Conditional, y: jax.Array) -> tuple[jax.Array, ...]:
    """Compute log p(y_i | z), F(y_i | z) and F(y_i - 1 | z), each of shape (draws, rows)."""

    def one(given: Distribution) -> tuple[jax.Array, ...]:
        below = jnp.where(y > 0, marginal_cdf(given, jnp.maximum(y - 1, 0)), 0.0)
        return jnp.asarray(given.log_prob(y)), marginal_cdf(given, y), below

    return jax.vmap(one)(conditionals.distribution)


def _class_levels(conditionals: Conditional, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute log p(y_i | z), shape (draws, rows), and all p(k | z), (draws, rows, classes)."""

    def one(given: Distribution) -> tuple[jax.Array, jax.Array]:
        probs = label_probabilities(unmasked(given))
        return jnp.asarray(given.log_prob(y)), probs

    return jax.vmap(one)(conditionals.distribution)


def is_single(prediction: AbstractPrediction) -> bool:
    """Return whether there is one target, whose levels can be mapped."""
    return prediction.target.kind == "class" or prediction.target.flat
