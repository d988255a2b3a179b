"""What SSVI refuses, and what it warns about."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.distributions import Distribution, Normal

from inference.core.engine import needs_gradients
from inference.core.problem import Problem
from inference.core.structure import LayeredNetwork
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.pattern import Pattern
from inference.sparse.products.sparse_product import LayerError, LayerRecorder
from inference.sparse.training.scores import Removal
from inference.sparse.variational.priors import entry_distribution


def reason_unsupported(problem: Problem, removal: Removal, allocation: str) -> str | None:
    """Return the reason why SSVI cannot run a problem, or None.

    Args:
        problem: the problem.
        removal: the criterion of removal.
        allocation: the allocation of the budget over layers.
    """
    network = problem.structure
    if not isinstance(network, LayeredNetwork):
        return "it needs the layers of a network, which bdl.BNN offers"
    if network.with_product is None:
        return (
            "the network does not say where it multiplies by weights; bdl.BNN(hidden=...), "
            "bdl.ConvNet and Equinox modules of Linear, ungrouped Conv and Embedding layers do"
        )
    reason = needs_gradients(problem)
    if reason is not None:
        return reason
    for latent, seen in network.weights.items():
        if seen not in network.matrices:
            continue
        prior = entry_distribution(problem.trace[latent]["fn"])
        if prior is None or (seen != latent and not network.scale_per_site):
            return f"the prior of '{seen}' has other latent variables for each weight"
        reason = _reason_prior_unsupported(seen, prior, removal, allocation)
        if reason is not None:
            return reason
    if len(problem.plates) != 1:
        return "its data are not in one plate"
    return _reason_layers_unclear(problem, network)


def _reason_prior_unsupported(
    layer: str, prior: Distribution, removal: Removal, allocation: str
) -> str | None:
    """Return the reason why the prior of a layer does not fit the settings, or None."""
    kind = type(prior).__name__
    if removal == "evidence" and not isinstance(prior, Normal):
        return f"removal='evidence' needs normal priors, and that of '{layer}' is {kind}"
    if removal == "support" and not isinstance(prior, Bursts):
        return f"removal='support' needs bdl.priors.Bursts, and the prior of '{layer}' is {kind}"
    if allocation == "global" and isinstance(prior, Bursts):
        return (
            "bursts lie in one layer, and allocation='global' has one budget for all: take "
            "'uniform' or 'erk'"
        )
    return None


def _reason_layers_unclear(problem: Problem, network: LayeredNetwork) -> str | None:
    """Return the reason why the layers of a network cannot be followed, or None."""
    with_product = network.with_product
    assert with_product is not None
    inputs = tuple(arg[:1] for arg in problem.args)

    def run() -> None:
        program = with_product(problem.program, LayerRecorder())
        handlers.seed(program, jax.random.key(0))(*inputs, **problem.kwargs)

    try:
        jax.eval_shape(run)
    except LayerError as error:
        return f"layer '{error}' is used twice for one row"
    except jax.errors.UnexpectedTracerError:
        return "a layer is used inside a vmap of the network's own"
    return None


def warn_about_lost_weights(losses: np.ndarray, every: int, log: list[dict[str, Any]]) -> None:
    """Warn where the objective between two earlier exchanges was better than at the end.

    The best of many blocks is better by chance too, so the limit is that of a probability of 1e-4
    over all of them.

    Args:
        losses: the objective at each step.
        every: the number of steps between exchanges.
        log: the exchanges.
    """
    blocks = losses[: len(losses) // every * every].reshape(-1, every)
    if len(blocks) < 2 or not log:
        return
    best, last = blocks[blocks.mean(1).argmin()], blocks[-1]
    limit = -statistics.NormalDist().inv_cdf(1e-4 / len(blocks))
    if last.mean() - best.mean() > limit * np.hypot(best.std(), last.std()) / np.sqrt(every):
        warnings.warn(
            f"SSVI: the objective was {-best.mean():.5g} between two exchanges, and is "
            f"{-last.mean():.5g} at the end: a weight that was needed may have been exchanged. "
            "Raise density or lower stop; removal='evidence' keeps what is needed.",
            stacklevel=4,
        )


def padding_notes(patterns: Mapping[str, Pattern]) -> list[str]:
    """Say which layers are padded to whole tiles."""
    return [
        f"layer '{name}', shape {pattern.shape}, is padded to {pattern.padded_shape} so that tiles "
        f"of {pattern.tile[0]} x {pattern.tile[1]} divide it."
        for name, pattern in patterns.items()
        if pattern.padded_shape != pattern.shape
    ]
