"""A smaller budget for a fitted q: the tiles of the lowest score leave, without more training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Normal

from inference.core.typing import AnyArray
from inference.sparse.patterns.budget import allocate_budget
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.pattern import BudgetError, Pattern
from inference.sparse.products.kernels import supported_kernels
from inference.sparse.training.scores import Removal, score_tiles
from inference.sparse.training.settings import AbstractSparseEngine
from inference.sparse.variational.priors import Prior, entry_distribution
from inference.sparse.variational.sites import ProblemSites


def prune(
    engine: AbstractSparseEngine,
    sites: ProblemSites,
    layout: Layout,
    params: Mapping[str, AnyArray],
    density: float | None,
) -> tuple[Layout, dict[str, AnyArray]]:
    """Return the layout and the parameters that are left.

    Args:
        engine: the engine of the fit.
        sites: the latent sites of the problem.
        layout: the layout of the fit.
        params: the fitted parameters by name.
        density: the new density; None keeps the tiles that raise the evidence.

    Raises:
        BudgetError: for a density that is not smaller, or that leaves a layer empty.
    """
    if density is None:
        _check_normal_priors(sites)
        counts = {name: _count_useful(sites, layout, params, name) for name in layout.patterns}
        removal = "evidence"
    else:
        counts, removal = _smaller_counts(engine, layout, density), engine.removal
    patterns, kept = {}, dict(params)
    for name, pattern in layout.patterns.items():
        if counts[name] == pattern.count:
            patterns[name] = pattern
            continue
        patterns[name] = dataclasses.replace(pattern, count=counts[name])
        scores = _store_scores(sites, layout, params, name, removal)
        places = np.sort(np.argsort(-scores, axis=1)[:, : counts[name]], axis=1)
        for part in ("index", "mean", "scale"):
            value = np.asarray(params[f"{name}/{part}"])
            where = places.reshape(*places.shape, *[1] * (value.ndim - 2))
            kept[f"{name}/{part}"] = np.take_along_axis(value, where, axis=1)
    kernels = {name: _kept_kernel(layout.kernels[name], p) for name, p in patterns.items()}
    return Layout(layout.shapes, patterns, kernels, layout.shares), kept


def _smaller_counts(engine: AbstractSparseEngine, layout: Layout, density: float) -> dict[str, int]:
    """Return the number of tiles of each group that a smaller density leaves, for each store.

    Raises:
        BudgetError: for a density that is not smaller, or that leaves a layer empty.
    """
    if not 0 < density < engine.density:
        raise BudgetError(
            f"rebudget(density={density!r}): expected a number between 0 and that of the fit, "
            f"{engine.density:g}; for more weights fit again."
        )
    if engine.density == 1:
        raise BudgetError(
            "The fit is dense: fit with SSVI(density=...) below 1 to have weights that can leave "
            "one by one."
        )
    dense = tuple(name for name, pattern in layout.patterns.items() if pattern.is_dense)
    smaller = allocate_budget(layout.shapes, density, engine.allocation, engine.structure, dense)
    return {
        name: min(pattern.count, smaller[name].count) for name, pattern in layout.patterns.items()
    }


def _kept_kernel(kernel: str, pattern: Pattern) -> str:
    """Return the kernel of the fit where it supports a pattern, otherwise the pattern's own."""
    supported = supported_kernels(pattern)
    return kernel if kernel in supported else supported[0]


def _check_normal_priors(sites: ProblemSites) -> None:
    """Refuse priors for which the change of the evidence has another formula.

    Raises:
        BudgetError: naming the layer.
    """
    for seen, latent in sites.weights.items():
        prior = entry_distribution(sites.problem.trace[latent]["fn"])
        if not isinstance(prior, Normal):
            raise BudgetError(
                f"The prior of '{seen}' is {type(prior).__name__}, not normal: give rebudget a "
                "density."
            )


def _store_scores(
    sites: ProblemSites,
    layout: Layout,
    params: Mapping[str, AnyArray],
    store: str,
    removal: Removal,
) -> np.ndarray:
    """Return the score of each tile of a store, shape (G, k)."""
    parts = (params[f"{store}/{part}"] for part in ("index", "mean", "scale"))
    index, mean, sd = map(jnp.asarray, parts)
    priors, key = _fitted_priors(sites, layout, params), jax.random.key(0)
    return np.asarray(score_tiles(layout, store, index, mean, sd, priors, removal, key))


def _count_useful(
    sites: ProblemSites, layout: Layout, params: Mapping[str, AnyArray], store: str
) -> int:
    """Count the tiles of a store without which the evidence is not larger.

    Raises:
        BudgetError: for a structure in which groups have equal counts, or where none is left.
    """
    pattern = layout.patterns[store]
    if pattern.is_dense:
        return pattern.count
    if pattern.per_row:
        raise BudgetError(
            "Each row of this structure has the same number of tiles, so the evidence cannot "
            "choose it: give a density."
        )
    kept = int((_store_scores(sites, layout, params, store, "evidence") >= 0).sum())
    if kept == 0:
        raise BudgetError(
            f"Without any of its weights layer '{store}' has more evidence: the network is too "
            "large for its data."
        )
    return kept


def _fitted_priors(
    sites: ProblemSites, layout: Layout, params: Mapping[str, AnyArray]
) -> dict[str, Prior]:
    """Return the priors of the weights at the centre of q."""
    values = {name: jnp.asarray(params[f"{name}/point"]) for name in sites.points}
    values |= {
        name: sites.transform(name)(jnp.asarray(params[f"{name}/loc"])) for name in sites.normals
    }
    return sites.priors(layout, values)
