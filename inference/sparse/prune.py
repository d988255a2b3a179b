"""A smaller budget for a fitted q: the tiles of the lowest score leave, without further training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Normal

from inference.sparse.patterns.budget import patterns
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.pattern import BudgetError, Pattern
from inference.sparse.products.kernels import fitting
from inference.sparse.training.tile_scores import tile_scores
from inference.sparse.variational.sites import Sites, entry_law

if TYPE_CHECKING:
    from inference.sparse.engine import SSVI


def pruned(
    engine: SSVI, sites: Sites, layout: Layout, params: Mapping[str, Any], density: float | None
) -> tuple[Layout, dict[str, Any]]:
    """The layout and the parameters that are left.

    Raises:
        BudgetError: for a density that is not smaller, or that leaves a layer empty.
    """
    if density is None:
        refuse_other_priors(sites)
        counts = {name: gaining(sites, layout, params, name) for name in layout.patterns}
        removal = "evidence"
    else:
        if not 0 < density < engine.density:
            raise BudgetError(
                f"rebudget(density={density!r}): expected a number between 0 and that of the fit, {engine.density:g}; for more "
                "weights fit again."
            )
        if engine.density == 1:
            raise BudgetError(
                "The fit is dense: fit with SSVI(density=...) below 1 to have weights that can leave one by one."
            )
        dense = tuple(name for name, pattern in layout.patterns.items() if pattern.is_dense)
        wanted = patterns(layout.shapes, density, engine.allocation, engine.structure, dense)
        counts = {
            name: min(pattern.count, wanted[name].count)
            for name, pattern in layout.patterns.items()
        }
        removal = engine.removal
    found, kept = {}, dict(params)
    for name, pattern in layout.patterns.items():
        found[name] = (
            pattern
            if counts[name] == pattern.count
            else dataclasses.replace(pattern, count=counts[name])
        )
        if counts[name] == pattern.count:
            continue
        scores = scores_of(sites, layout, params, name, removal)
        places = np.sort(np.argsort(-scores, axis=1)[:, : counts[name]], axis=1)
        for part in ("index", "mean", "scale"):
            value = np.asarray(params[f"{name}/{part}"])
            kept[f"{name}/{part}"] = np.take_along_axis(
                value, places.reshape(*places.shape, *[1] * (value.ndim - 2)), axis=1
            )
    kernels = {
        name: layout.kernels[name] if layout.kernels[name] in fitting(p) else fitting(p)[0]
        for name, p in found.items()
    }
    return Layout(layout.shapes, found, kernels, layout.shares), kept


def refuse_other_priors(sites: Sites) -> None:
    """Refuses priors for which the change of the evidence has another formula.

    Raises:
        BudgetError: naming the layer.
    """
    for seen, latent in sites.weights.items():
        law = entry_law(sites.problem.trace[latent]["fn"])
        if not isinstance(law, Normal):
            raise BudgetError(
                f"The prior of '{seen}' is {type(law).__name__}, not normal: give rebudget a density."
            )


def scores_of(
    sites: Sites, layout: Layout, params: Mapping[str, Any], store: str, removal: Any
) -> np.ndarray:
    """The score of each tile of a store, shape (G, k)."""
    index, mean, sd = (
        jnp.asarray(params[f"{store}/{part}"]) for part in ("index", "mean", "scale")
    )
    priors = fitted_priors(sites, layout, params)
    return np.asarray(
        tile_scores(layout, store, index, mean, sd, priors, removal, jax.random.key(0))
    )


def gaining(sites: Sites, layout: Layout, params: Mapping[str, Any], store: str) -> int:
    """The tiles of a store without which the evidence is not larger.

    Raises:
        BudgetError: for a structure in which groups have equal counts, or where none is left.
    """
    pattern: Pattern = layout.patterns[store]
    if pattern.is_dense:
        return pattern.count
    if pattern.per_row:
        raise BudgetError(
            "Each row of this structure has the same number of tiles, so the evidence cannot choose it: give a density."
        )
    kept = int((scores_of(sites, layout, params, store, "evidence") >= 0).sum())
    if kept == 0:
        raise BudgetError(
            f"Without any of its weights layer '{store}' has more evidence: the network is too large for its data."
        )
    return kept


def fitted_priors(sites: Sites, layout: Layout, params: Mapping[str, Any]) -> dict[str, Any]:
    """The priors of the weights at the centre of q."""
    values = {name: jnp.asarray(params[f"{name}/point"]) for name in sites.points}
    values |= {
        name: sites.transform(name)(jnp.asarray(params[f"{name}/loc"])) for name in sites.normals
    }
    return sites.priors(layout, values)
