"""Masks, smaller budgets and guides of sparse fits; used through `bayesdl.sparse`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayesdl.posterior.adjustment import changed
from bayesdl.posterior.posterior import Posterior
from bayesdl.typing import Program
from inference.core.engine import require
from inference.sparse.decompression import SparseDecompression
from inference.sparse.engine import SSVI
from inference.sparse.posterior import SparseApproximation
from inference.sparse.prune import prune


def sparse_parts(post: Posterior) -> tuple[SparseApproximation, SparseDecompression]:
    """Return the result of a sparse fit, and the map from its draws to all sites.

    Raises:
        UnsupportedError: for a fit with another engine.
    """
    raw = require(post, Posterior, _another(post)).raw
    raw = require(raw, SparseApproximation, _another(post))
    return raw, raw.decompression


def _another(post: object) -> str:
    """Return the error for what is no sparse fit."""
    return f"Expected a fit with bdl.SSVI, got {post!r}: fit a bdl.BNN with engine=bdl.SSVI()."


def masks(post: Posterior) -> dict[str, np.ndarray]:
    """Return which weights of each layer are active, shape (out, in, ...).

    Args:
        post: a fit with `SSVI`.

    Raises:
        UnsupportedError: for a fit with another engine.
    """
    _, decompression = sparse_parts(post)
    layout = decompression.layout
    ones = {name: jnp.ones(pattern.values_shape) for name, pattern in layout.patterns.items()}
    matrices = layout.matrices(decompression.index, ones)
    return {name: np.asarray(value) > 0 for name, value in matrices.items()}


def rebudget(post: Posterior, density: float | None = None) -> Posterior:
    """Return the same posterior with fewer weights, without further training.

    The weights of the lowest score are set to zero.

    Args:
        post: a fit with `SSVI`.
        density: the density of the new budget, below that of the fit; None removes the weights or
            neurons without which the evidence is larger (Bayesian model reduction), for
            unstructured fits and neurons, with normal priors.

    Raises:
        UnsupportedError: for a fit with another engine.
        BudgetError: for a density that is not smaller, or that leaves a layer empty.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 50)[:, None]
        >>> model = bdl.BNN(hidden=(20, 20))
        >>> engine = bdl.SSVI(density=0.3, steps=200)
        >>> post = bdl.fit(model, X, np.sin(3 * X[:, 0]), engine=engine, progress=False)
        >>> bdl.sparse.report(rebudget(post, 0.2)).density <= 0.2
        True
    """
    raw, decompression = sparse_parts(post)
    fitted, old = require(post.engine, SSVI, _another(post)), decompression.layout
    layout, params = prune(fitted, decompression.sites, old, raw.params, density)
    engine = fitted if density is None else dataclasses.replace(fitted, density=density)
    before = sum(pattern.size for pattern in old.patterns.values())
    removed = before - sum(pattern.size for pattern in layout.patterns.values())
    note = (
        f"{removed} weights were removed after the fit, so its ELBO does not hold; post.diagnose() "
        "tells that of this posterior."
    )
    info = raw.info | engine.storage_facts(layout, params, raw.info["places"])
    info |= {"elbo": math.nan, "divergence": math.nan, "notes": [*info["notes"], note]}
    result = engine.approximation(post.problem, layout, params, raw.losses, info)
    return changed(post, raw=result, engine=engine)


def guide(post: Posterior) -> Program:
    """Return the fitted q as a NumPyro program with the arguments of the model.

    It is made for `numpyro.infer.Predictive(model, guide=...)`. Active weights are auxiliary sites,
    and those of the model deterministic functions of them; so it is a guide to draw from, and its
    density at the sites of the model cannot be computed.

    Args:
        post: a fit with `SSVI`.

    Raises:
        UnsupportedError: for a fit with another engine.
    """
    raw, decompression = sparse_parts(post)
    sites, layout = decompression.sites, decompression.layout

    def program(*args: Any, **kwargs: Any) -> None:
        import numpyro
        import numpyro.distributions as dist

        compressed: dict[str, Any] = {
            name: jnp.asarray(raw.params[f"{name}/point"]) for name in sites.points
        }
        for name in (*layout.patterns, *sites.normals):
            is_store = name in layout.patterns
            loc = jnp.asarray(raw.params[f"{name}/{'mean' if is_store else 'loc'}"])
            scale = jnp.asarray(raw.params[f"{name}/scale"])
            normal = dist.Normal(loc, scale).to_event(loc.ndim)
            drawn = numpyro.sample(f"{name} (active)", normal, infer={"is_auxiliary": True})
            compressed[name] = drawn if is_store else sites.transform(name)(drawn)
        values = decompression(compressed)
        for name in sites.problem.latents:
            numpyro.sample(name, dist.Delta(values[name]).to_event(jnp.ndim(values[name])))

    return program
