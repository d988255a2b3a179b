"""New entries of a fitted functional tensor: what the old ones said of each function stays, as Lambda and eta."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from inference.messages.forms import moments
from inference.messages.law import function_at, mode_params
from inference.messages.passes import Passes, State
from inference.messages.sites import Sites
from inference.problem import ProblemError
from inference.result import Predictor


def continued(passes: Passes, before: Predictor, new: int) -> tuple[Passes, State]:
    """The passes over the last `new` entries alone, and the state to begin with.

    Args:
        passes: of the problem with all entries.
        before: the result without the new ones.
        new: their number.
    """
    s, params = passes.structure, before.params
    law: Any = before.predict
    told, factors = [], []
    for k, positions in enumerate(s.positions):
        mode = mode_params(params, k)
        at = np.searchsorted(positions, np.asarray(law.positions[k]))
        if not np.array_equal(np.asarray(positions)[at], np.asarray(law.positions[k])):
            raise ProblemError(f"The indexes of mode '{s.names[k]}' before the update are not among those after it.")
        told.append(tuple(spread_out(np.asarray(mode[part]), at, len(positions)) for part in ("precision", "information")))
        made = function_at(s.smoothness[k], mode, jnp.asarray(law.positions[k]), jnp.asarray(positions))
        factors.append(moments(*made))
    core = told_core = None
    if "core.mean" in params:
        core = moments(jnp.asarray(params["core.mean"]), jnp.asarray(params["core.covariance"]))
        told_core = (jnp.asarray(params["core.precision"]), jnp.asarray(params["core.information"]))
    hyper = passes.unconstrained({name: jnp.asarray(params[f"hyper.{name}"]) for name in s.hyperparameters})
    latest = dataclasses.replace(s, places=tuple(place[-new:] for place in s.places))
    passes = dataclasses.replace(
        passes,
        problem=dataclasses.replace(passes.problem, structure=latest),
        y=passes.y[-new:],
        known=(told, told_core),
        damping=0.0,
    )
    sites = Sites(jnp.zeros(new), jnp.zeros(new))
    state = State(told, factors, told_core, core, sites, jnp.asarray(params["sigma"]), hyper, passes.optimizer.init(hyper))
    return passes, state._replace(sites=passes.sites(state, *passes.entries(state), 1.0))


def spread_out(values: np.ndarray, at: np.ndarray, size: int) -> Any:
    """Values at some of many positions, zero at the others."""
    found = np.zeros((size, *values.shape[1:]))
    found[at] = values
    return jnp.asarray(found)
