"""Log densities of a program's sites at posterior draws, for leave-one-out and power scaling.

    log p(y | z) = sum over rows of log p(y_i | z)
    log p(z) = sum over latent sites of log p(z_s | z before s)

Densities are those that the program states, on the space of each site (no log-determinants).
Targets count in the units of y: where the model sees (y - m) / s, the log density of a row loses
log s for each of its targets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpyro import handlers

from bayesdl.checks.traces import (
    Values,
    data_terms,
    data_values,
    factor_terms,
    level_terms,
    prior_terms,
    row_terms,
    row_weights,
    visible_rows,
    visible_values,
)
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.core import AbstractPosterior, draws_shape, latent_draws, stream_of
from bayesdl.posterior.summed import map_draws
from inference.arguments import call, join_static
from inference.chunks import take
from inference.core.enumeration import discrete
from inference.core.problem import Problem
from inference.core.result import DRAWS_AT_ONCE, Conditional
from inference.core.typing import Key

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
    if posterior.model.rows_are_independent and "weights" in posterior.problem.kwargs:
        raise ValueError(
            f"The rows of this fit have weights that are no counts, and {purpose} takes each row "
            "for one: use post.score on held-out data."
        )
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
    if posterior.problem.summed:
        return _summed(discrete.prior_log_probs, posterior)
    return _of_program(prior_terms, posterior)


def log_likelihood(posterior: AbstractPosterior) -> dict[str, Float[np.ndarray, "chain draw"]]:
    """Compute log p(y | z) for each observed site, summed over its rows.

    Constants of the units are left out.
    """
    if posterior.problem.summed:
        return _summed(_summed_data_terms, posterior)
    if not _separable(posterior):
        return _of_program(data_terms, posterior)
    return {"y": np.sum([block.sum(-1) for block in blocks(posterior)["y"]], axis=0)}


def blocks(
    posterior: AbstractPosterior,
) -> dict[str, Iterator[Float[np.ndarray, "chain draw *rows"]]]:
    """Compute log p(y_i | z) for each observed site in the units of y, in blocks of rows.

    There are blocks where memory can be bounded so. Where rows vary together given z (one
    multivariate normal, such as a Gaussian process with f integrated out; or a discrete site that
    several rows share, summed out) it is
    log p(y_i | y_-i, z), from which leave-one-out starts; the sum over rows is then not
    log p(y | z).
    """
    if _separable(posterior):
        return {"y": _row_blocks(posterior)}
    return {name: iter([values]) for name, values in pointwise(posterior).items()}


def pointwise(posterior: AbstractPosterior) -> dict[str, Float[np.ndarray, "chain draw *rows"]]:
    """Return log p(y_i | z) of each observed site, by its axes of rows.

    Of a site with rows that a mask hides it is one axis of the others.
    """
    if _separable(posterior):
        return {"y": np.concatenate(list(blocks(posterior)["y"]), axis=2)}
    terms = site_terms(posterior)
    # only programs have masks
    if posterior.model.observed_values(posterior.schema, posterior.problem) is not None:
        return terms
    seen = seen_rows(posterior)
    return {
        name: values if seen[name].all() else values[:, :, seen[name]]
        for name, values in terms.items()
    }


def site_terms(
    posterior: AbstractPosterior, factors: bool = False
) -> dict[str, Float[np.ndarray, "chain draw *rows"]]:
    """Compute log p(y_i | z) of each observed site in the units of y, masked rows included.

    Args:
        posterior: the posterior of a program.
        factors: whether to add the values of factors.

    Raises:
        ValueError: where rows have weights other than 0 and 1.
    """
    _refuse_weights(posterior)
    if posterior.problem.summed:
        # factors may depend on what is summed out, and belong to no row
        return _summed(discrete.row_log_probs, posterior)
    unit = _log_unit(posterior)
    found = {name: values - unit for name, values in _of_program(row_terms, posterior).items()}
    return found | (_of_program(factor_terms, posterior) if factors else {})


def _refuse_weights(posterior: AbstractPosterior) -> None:
    """Refuse rows that the likelihood counts more or less than once."""
    trace = posterior.problem.trace
    if all(trace[name]["scale"] is None for name in posterior.problem.observed):
        return
    for name, weights in _at_first_draw(row_weights, posterior).items():
        if not np.isin(weights, (0, 1)).all():
            low, high = weights.min(), weights.max()
            raise ValueError(
                f"The rows of site '{name}' have weights (numpyro.handlers.scale) of {low:g}"
                f"{f' to {high:g}' if high > low else ''}, and log densities of rows, as of "
                "leave-one-out, take each row for one: use post.score on held-out data."
            )


def log_likelihoods_and_levels(
    posterior: AbstractPosterior,
) -> tuple[Float[np.ndarray, "draws rows"], Float[np.ndarray, "draws rows"]]:
    """Return log p(y_i | z) and P(Y_i <= y_i | z) of the rows of the site that is predicted.

    Where one multivariate normal holds all rows both are given y_-i too.

    Raises:
        NotImplementedError: where NumPyro has no distribution function, or rows share discrete
            sites that are summed out.
    """
    if posterior.problem.summed:
        raise NotImplementedError
    site = posterior.model.target_site(posterior.problem)
    seen = seen_rows(posterior)[site]
    terms = _of_program(row_terms, posterior)[site][:, :, seen]
    levels = _of_program(level_terms, posterior)[site][:, :, seen]
    shape = (-1, terms[0, 0].size)
    return terms.reshape(shape), levels.reshape(shape)


def observed_values(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Return the values of the observed sites in the units of y; classes as their indices.

    Entries that a mask hides hold whatever fills them: see `seen_values`.
    """
    known = posterior.model.observed_values(posterior.schema, posterior.problem)
    return _at_first_draw(data_values, posterior) if known is None else known


def seen_values(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Return which entries of the observed sites no mask hides, shaped as their values."""
    known = posterior.model.observed_values(posterior.schema, posterior.problem)
    if known is not None:
        return {name: np.ones(value.shape, bool) for name, value in known.items()}
    return _at_first_draw(visible_values, posterior)


def seen_rows(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Return which rows of the observed sites, and of factors, no mask hides."""
    return _at_first_draw(visible_rows, posterior)


def with_gaps(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Return the values of the observed sites, NaN where a mask hides them."""
    values, seen = observed_values(posterior), seen_values(posterior)
    return {
        name: value if seen[name].all() else np.where(seen[name], value.astype(np.float64), np.nan)
        for name, value in values.items()
    }


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


def _at_first_draw(function: Callable, posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    # at other rows there may be other entries, of what an obs_mask leaves unseen
    shapes = posterior.problem.unobserved
    first = {
        name: value[:1]
        for name, value in latent_draws(posterior).items()
        if shapes.get(name, value.shape[1:]) == value.shape[1:]
    }
    values = _at_draws_of(function, posterior, first)
    return {name: np.asarray(value[0]) for name, value in values.items()}


def simulate_data_sets(
    posterior: AbstractPosterior, num_samples: int, seed: int, shuffle: bool = True
) -> dict[str, np.ndarray]:
    """Simulate all observed sites together, shape (num_samples, *shape of the value).

    Each data set follows one draw of the latent sites, as those of `Predictive` do.

    Args:
        posterior: the posterior of a program.
        num_samples: the number of data sets; beyond the number of draws, draws are used again.
        seed: the seed of the simulation.
        shuffle: whether the draws come in random order, or in their own.
    """
    key, latents = jax.random.key(seed), latent_draws(posterior)
    total = len(next(iter(latents.values())))
    order = np.asarray(jax.random.permutation(key, total)) if shuffle else np.arange(total)
    index = order[np.arange(num_samples) % total]
    chosen = {name: value[index] for name, value in latents.items()}
    program = handlers.uncondition(posterior.problem.program)
    keys = jax.random.split(key, num_samples)
    names = posterior.problem.observed
    return _at_draws_of(Values(names), posterior, chosen, program, keys)


def _at_draws_of(
    function: Callable,
    posterior: AbstractPosterior,
    draws: dict,
    program: Callable | None = None,
    keys: Key | None = None,
) -> dict[str, np.ndarray]:
    problem = posterior.problem
    program = problem.program if program is None else program
    if keys is None:
        # nothing is left to draw, but programs may ask for keys
        keys = jnp.broadcast_to(jax.random.key(0), (len(next(iter(draws.values()))),))
    # where rows vary together there is a matrix of rows for each draw
    at_once = 1 if posterior.model.rows_correlated else DRAWS_AT_ONCE
    with precision_scope(posterior.model):
        values = call(
            lambda arrays, static: _at_draws(
                function, program, static, at_once, (draws, keys), arrays
            ),
            (tuple(problem.args), dict(problem.kwargs)),
            problem.program,
        )
        return jax.tree.map(np.asarray, values)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _at_draws(
    function: Callable,
    program: Callable,
    static: Hashable,
    at_once: int,
    draws: tuple[dict, Key],
    arrays: list,
) -> dict:
    """Compute `function(sites)` of the program with its data, for each draw and its key."""
    args, kwargs = join_static(arrays, static)

    def one(given: tuple[dict, Key]) -> dict:
        latents, key = given
        seeded = handlers.seed(program, key)
        return function(
            handlers.trace(handlers.substitute(seeded, data=latents)).get_trace(*args, **kwargs)
        )

    return jax.lax.map(one, draws, batch_size=at_once)


def _summed(function: Callable, posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Compute a function of the problem at all draws, discrete sites summed out."""
    problem, shape = posterior.raw.restore_problem(posterior.problem), draws_shape(posterior)
    draws = {name: latent_draws(posterior)[name] for name in problem.latents}
    values = map_draws(function, problem, draws)
    return {name: value.reshape(*shape, *value.shape[1:]) for name, value in values.items()}


def _summed_data_terms(problem: Problem, latents: Mapping[str, jax.Array]) -> dict:
    """Compute log p(y | z) of all observed sites together, discrete ones summed out."""
    return {"y": discrete.data_log_prob(problem, latents)}
