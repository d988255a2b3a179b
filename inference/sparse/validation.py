"""What SSVI refuses or warns of."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.distributions import Normal

from inference.core.engine import needs_gradients
from inference.core.problem import Problem
from inference.core.structure import LayeredNetwork
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.pattern import Pattern
from inference.sparse.products.sparse_product import LayerError, Watching
from inference.sparse.variational.sites import entry_law


def reason_against(problem: Problem, removal: Any, allocation: str) -> str | None:
    """Why SSVI with this criterion of removal and this allocation cannot run a problem, or None."""
    network = problem.structure
    if not isinstance(network, LayeredNetwork):
        return "it needs the layers of a network, which bdl.BNN offers"
    if network.with_product is None:
        return (
            "the network does not say where it multiplies by weights; bdl.BNN(hidden=...), bdl.ConvNet and Equinox modules "
            "of Linear, ungrouped Conv and Embedding layers do"
        )
    reason = needs_gradients(problem)
    if reason is not None:
        return reason
    for latent, seen in network.weights.items():
        if seen not in network.matrices:
            continue
        law = entry_law(problem.trace[latent]["fn"])
        if law is None or (seen != latent and not network.scale_per_site):
            return f"the prior of '{seen}' has other latent variables for each weight"
        if removal == "evidence" and not isinstance(law, Normal):
            return f"removal='evidence' needs normal priors, and that of '{seen}' is {type(law).__name__}"
        if removal == "support" and not isinstance(law, Bursts):
            return f"removal='support' needs bdl.priors.Bursts, and the prior of '{seen}' is {type(law).__name__}"
        if allocation == "global" and isinstance(law, Bursts):
            return "bursts lie in one layer, and allocation='global' has one budget for all: take 'uniform' or 'erk'"
    if len(problem.plates) != 1:
        return "its data are not in one plate"
    return strange_layers(problem, network)


def strange_layers(problem: Problem, network: LayeredNetwork) -> str | None:
    """Why the layers of a network cannot be followed, or None."""
    multiplied = network.with_product
    assert multiplied is not None
    inputs = tuple(arg[:1] for arg in problem.args)

    def run() -> None:
        handlers.seed(multiplied(Watching()), jax.random.key(0))(*inputs, **problem.kwargs)

    try:
        jax.eval_shape(run)
    except LayerError as error:
        return f"layer '{error}' is used twice for one row"
    except jax.errors.UnexpectedTracerError:
        return "a layer is used inside a vmap of the network's own"
    return None


def warn_of_loss(losses: np.ndarray, every: int, log: list[dict]) -> None:
    """Warns where the objective between two earlier exchanges was better than it is at the end.

    The best of many blocks is better by chance too, so the limit is that of a probability of 1e-4 over all of them.
    """
    blocks = losses[: len(losses) // every * every].reshape(-1, every)
    if len(blocks) < 2 or not log:
        return
    best, last = blocks[blocks.mean(1).argmin()], blocks[-1]
    limit = -statistics.NormalDist().inv_cdf(1e-4 / len(blocks))
    if last.mean() - best.mean() > limit * np.hypot(best.std(), last.std()) / np.sqrt(every):
        warnings.warn(
            f"SSVI: the objective was {-best.mean():.5g} between two exchanges, and is {-last.mean():.5g} at the end: a weight "
            "that was needed may have been exchanged. Raise density or lower stop; removal='evidence' keeps what is needed.",
            stacklevel=4,
        )


def padding_notes(found: Mapping[str, Pattern]) -> list[str]:
    """Which layers are padded to whole tiles."""
    return [
        f"layer '{name}', shape {p.shape}, is padded to {p.padded} so that tiles of {p.tile[0]} x {p.tile[1]} divide it."
        for name, p in found.items()
        if p.padded != p.shape
    ]
