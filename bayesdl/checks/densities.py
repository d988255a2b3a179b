"""Log densities of a program's sites at posterior draws, for leave-one-out and power scaling.

    log p(y | z) = sum over rows of log p(y_i | z)
    log p(z) = sum over latent sites of log p(z_s | z before s)

Densities are those that the program states, on the space of each site (no log-determinants).
Targets count in the units of y: where the model sees (y - m) / s, the log density of a row loses
log s for each of its targets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float
from numpyro import handlers
from numpyro.distributions import Distribution, Independent, MultivariateNormal, Unit

from bayesdl.model.precision import precision_scope
from bayesdl.posterior.core import AbstractPosterior, draws_shape, latent_draws, stream_of
from bayesdl.posterior.streaming import DRAWS_AT_ONCE, take
from inference.arguments import call, join_static
from inference.core.result import Conditional

# rows whose log densities are held at once
BLOCK = 1024


def need_draws(posterior: AbstractPosterior, purpose: str) -> None:
    """Refuse a posterior without draws of the exact posterior.

    Args:
        posterior: the posterior, of any engine.
        purpose: what the draws are for, as the subject of a sentence.

    Raises:
        ValueError: for an approximation or a predictor, draws at another temperature, or draws
            that are not finite.
    """
    if posterior.raw.groups():
        _need_the_posterior(posterior, purpose)
        return
    if posterior.samples:
        raise ValueError(
            f"{posterior!r} is an approximation: {purpose} reweights draws of the posterior "
            "itself. Fit with bdl.NUTS(), or judge this fit by post.diagnose() and by post.score "
            "on held-out data."
        )
    raise ValueError(
        f"{posterior!r} has no draws of parameters, which {purpose} reweights. Fit with "
        "bdl.NUTS(), a GP also with bdl.ExactGP(hyperparameters='sample'), or judge this fit by "
        "post.score on held-out data."
    )


def _need_the_posterior(posterior: AbstractPosterior, purpose: str) -> None:
    """Refuse draws that are not of p(z | y)."""
    temperature = posterior.raw.temperature
    if temperature != 1:
        raise ValueError(
            f"Draws are of p(z | y)^(1/{temperature:g}), as temperature={temperature:g} was asked "
            f"for, and {purpose} reweights draws of the posterior itself: fit with temperature=1."
        )
    for name in posterior.problem.latents:
        if not np.isfinite(posterior.samples[name]).all():
            raise ValueError(
                f"Site '{name}' has draws that are NaN or infinite, which {purpose} cannot "
                "reweight: see post.diagnose(), and fit again."
            )


def log_prior(posterior: AbstractPosterior) -> dict[str, Float[np.ndarray, "chain draw"]]:
    """Compute log p(z_s | z before s) for each latent site, summed over its entries."""
    return _of_program(_prior_terms, posterior)


def log_likelihood(posterior: AbstractPosterior) -> dict[str, Float[np.ndarray, "chain draw"]]:
    """Compute log p(y | z) for each observed site, summed over its rows.

    Constants of the units are left out.
    """
    if not _separable(posterior):
        return _of_program(_data_terms, posterior)
    return {"y": np.sum([block.sum(-1) for block in blocks(posterior)["y"]], axis=0)}


def blocks(
    posterior: AbstractPosterior,
) -> dict[str, Iterator[Float[np.ndarray, "chain draw *rows"]]]:
    """Compute log p(y_i | z) for each observed site in the units of y, in blocks of rows.

    There are blocks where memory can be bounded so. Where rows vary together given z (one
    multivariate normal, such as a Gaussian process with f integrated out) it is
    log p(y_i | y_-i, z), from which leave-one-out starts; the sum over rows is then not
    log p(y | z).
    """
    if _separable(posterior):
        return {"y": _row_blocks(posterior)}
    unit = _log_unit(posterior)
    return {
        name: iter([values - unit]) for name, values in _of_program(_row_terms, posterior).items()
    }


def pointwise(posterior: AbstractPosterior) -> dict[str, Float[np.ndarray, "chain draw *rows"]]:
    """Join the blocks of each observed site."""
    return {name: np.concatenate(list(parts), axis=2) for name, parts in blocks(posterior).items()}


def observed(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Return the values of the observed sites in the units of y; classes as their indices."""
    known = posterior.model.observed_values(posterior.schema, posterior.problem)
    if known is not None:
        return known
    first = {name: value[:1] for name, value in latent_draws(posterior).items()}
    return {name: value[0] for name, value in _at_draws_of(_data_values, posterior, first).items()}


def _separable(posterior: AbstractPosterior) -> bool:
    """Whether each row of a table has a distribution of its own given a draw."""
    return posterior.model.rows_are_independent and not posterior.model.rows_correlated


def _log_unit(posterior: AbstractPosterior) -> float:
    """Return what a row's log density loses when y is given in its own units."""
    return posterior.model.log_unit(posterior.schema)


def _row_blocks(posterior: AbstractPosterior) -> Iterator[Float[np.ndarray, "chain draw rows"]]:
    X, y = posterior.problem.args
    size, unit, shape = min(BLOCK, len(X)), _log_unit(posterior), draws_shape(posterior)
    for start in range(0, len(X), size):
        args = (take(X, start, size),)
        stream = stream_of(posterior, args, {}, batch_size=size)
        values = stream.map(_log_densities, take(y, start, size))[:, : len(X) - start]
        yield values.reshape(*shape, -1).astype(np.float64) - unit


def _log_densities(conditionals: Conditional, y: jax.Array) -> jax.Array:
    """Compute log p(y_i | z) for each draw, shape (draws, rows)."""
    return jax.vmap(lambda given: given.log_prob(y))(conditionals.distribution)


def _of_program(function: Callable, posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Compute a function of the program's sites at all draws, shape (chain, draw, ...)."""
    values, shape = (
        _at_draws_of(function, posterior, latent_draws(posterior)),
        draws_shape(posterior),
    )
    return {
        name: value.reshape(*shape, *value.shape[1:]).astype(np.float64)
        for name, value in values.items()
    }


def _at_draws_of(
    function: Callable, posterior: AbstractPosterior, draws: dict
) -> dict[str, np.ndarray]:
    problem = posterior.problem
    # where rows vary together there is a matrix of rows for each draw
    at_once = 1 if posterior.model.rows_correlated else DRAWS_AT_ONCE
    with precision_scope(posterior.model):
        values = call(
            lambda arrays, static: _at_draws(
                function, problem.program, static, at_once, draws, arrays
            ),
            (tuple(problem.args), dict(problem.kwargs)),
            problem.program,
        )
        return jax.tree.map(np.asarray, values)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _at_draws(
    function: Callable, program: Callable, static: Hashable, at_once: int, draws: dict, arrays: list
) -> dict:
    """Compute `function(sites)` of the program with its data, for each draw."""
    args, kwargs = join_static(arrays, static)

    def one(latents: dict) -> dict:
        # nothing is left to draw, but programs may ask for keys
        seeded = handlers.seed(program, jax.random.key(0))
        return function(
            handlers.trace(handlers.substitute(seeded, data=latents)).get_trace(*args, **kwargs)
        )

    return jax.lax.map(one, draws, batch_size=at_once)


# Functions of a trace: sites by name, with values and distributions.


def _prior_terms(sites: dict) -> dict:
    return {
        name: _total(site)
        for name, site in sites.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


def _data_terms(sites: dict) -> dict:
    return {name: _total(site) for name, site in sites.items() if _is_data(site)}


def _row_terms(sites: dict) -> dict:
    return {
        name: _by_row(site["fn"], site["value"]) for name, site in sites.items() if _is_data(site)
    }


def _data_values(sites: dict) -> dict:
    return {name: jnp.asarray(site["value"]) for name, site in sites.items() if _is_data(site)}


def _is_data(site: dict) -> bool:
    """Whether a site is observed and not a factor."""
    return site["type"] == "sample" and site["is_observed"] and not isinstance(site["fn"], Unit)


def _total(site: dict) -> jax.Array:
    """Compute the site's term of the log joint density."""
    terms = jnp.asarray(site["fn"].log_prob(site["value"]))
    return jnp.sum(terms if site["scale"] is None else site["scale"] * terms)


def _by_row(given: Distribution, y: jax.Array) -> jax.Array:
    """Compute log p(y_i | z) per row.

    Where one multivariate normal holds all rows, it is log p(y_i | y_-i, z).
    """
    # one event of independent entries: each is a row
    while isinstance(given, Independent) and not given.batch_shape:
        given = given.base_dist
    if isinstance(given, MultivariateNormal) and not given.batch_shape:
        return _left_out(jnp.broadcast_to(given.loc, y.shape), given.scale_tril, y)
    return jnp.asarray(given.log_prob(y))


def _left_out(
    mean: Float[Any, "rows"], lower: Float[Any, "rows rows"], y: Float[Any, "rows"]
) -> Float[Any, "rows"]:
    """Compute log p(y_i | y_-i) for y ~ N(mean, C) with C = lower lower'.

    With g = C^-1 (y - mean) and c = diag C^-1 it is the log density of N(y_i - g_i / c_i, 1 / c_i)
    at y_i (Sundararajan and Keerthi 2001; Bürkner, Gabry and Vehtari 2021, arXiv:1810.10559).
    """
    root = solve_triangular(lower, jnp.eye(len(y), dtype=lower.dtype), lower=True)
    c, g = jnp.sum(root**2, axis=0), root.T @ (root @ (y - mean))
    return 0.5 * (jnp.log(c) - jnp.log(2 * jnp.pi) - g**2 / c)
