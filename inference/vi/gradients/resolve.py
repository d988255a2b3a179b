"""One estimate, with an unbiased value and derivative, from runs of an objective.

The first site whose gradient does not pass through its value is outermost. The rest of the
program, run again with that site overridden, is the k of its estimator (`estimators.py` has the
formulas).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from numpyro import handlers

from inference.core.keys import named_key
from inference.vi.gradients.estimators import MVD, Enum, EstimatorError, Reinforce
from inference.vi.gradients.programs import Call, Site
from inference.vi.gradients.runs import ObjectiveRun

# the name of the axis of independent estimates
PARTICLES = "bayesdl particles"

RunAndValue: TypeAlias = tuple[ObjectiveRun, jax.Array]
"""A run of the objective, and its value."""

Continuation: TypeAlias = Callable[[jax.Array], jax.Array]
"""A function from a site's value (or the places of its draws) to the estimate of the rest."""


class Resolver:
    """Turns runs of an objective into one estimate.

    Args:
        run_again: a function that runs the objective, given overrides, swaps and the resolved
            sites (see `ObjectiveRun`).
        call: how its programs are run.
        num_particles: the number of independent estimates made side by side along `PARTICLES`.
    """

    def __init__(
        self,
        run_again: Callable[[Mapping, Mapping, Collection[str]], RunAndValue],
        call: Call,
        num_particles: int,
    ) -> None:
        self.run_again, self.call, self.num_particles = run_again, call, num_particles

    def estimate(self) -> jax.Array:
        """Return the estimate of the objective's expectation."""
        first = self.run_again({}, {}, ())
        drawn = first[0].drawn
        unknown = set(self.call.estimators) - drawn
        if unknown:
            raise EstimatorError(
                f"estimators: no site '{sorted(unknown)[0]}' is drawn, only {sorted(drawn)}."
            )
        return self.estimate_rest(first, frozenset(), only_value=False)

    def estimate_rest(
        self, last: RunAndValue, resolved: frozenset[str], only_value: bool
    ) -> jax.Array:
        """Return the estimate of what a run's remaining sites leave open.

        Args:
            last: the run and its value.
            resolved: the ids of the sites that are resolved.
            only_value: whether no derivative is wanted, so that only `Enum` has anything to do.
        """
        run, value = last
        site = next((site for site in run.sites if site.id not in resolved), None)
        if site is None:
            return value
        rest = resolved | {site.id}

        def here() -> jax.Array:
            return self.estimate_rest(last, rest, only_value)

        def at(value: jax.Array, only_value: bool = only_value) -> jax.Array:
            other = self.run_again({**run.overrides, site.id: value}, run.swaps, rest)
            return self.estimate_rest(other, rest, only_value)

        def swapped(places: jax.Array) -> jax.Array:
            assert site.group is not None
            other = self.run_again(run.overrides, {**run.swaps, site.group: places}, rest)
            return self.estimate_rest(other, rest, True)

        if isinstance(site.estimator, Enum):
            return _sum_over_values(site, at)
        if only_value:
            return here()
        if isinstance(site.estimator, MVD):
            return _add_replacements(site, here(), functools.partial(at, only_value=True))
        assert isinstance(site.estimator, Reinforce)
        costs = run.costs_before(site)
        return self.add_score_term(site, site.estimator.baseline, here(), costs, swapped)

    def add_score_term(
        self,
        site: Site,
        baseline: str | int | float | Callable | None,
        k: jax.Array,
        costs: jax.Array,
        swapped: Continuation,
    ) -> jax.Array:
        """Return k + sg(k - b) (log q - sg log q); see `Reinforce` for the baselines b.

        Args:
            site: the site.
            baseline: the baseline that its estimator asks for.
            k: the estimate of the rest at the site's value.
            costs: the costs that were added before the site was drawn.
            swapped: the estimate of the rest, given which draw stands in each place.
        """
        log_q = site.extras["log_q"]
        if baseline == "loo" and site.group is not None and site.batch_shape[0] > 1:
            log_q = log_q.reshape(site.batch_shape[0], -1).sum(1)
            gain = sg(k - _mean_of_others(site.batch_shape[0], swapped))
            return k + jnp.sum(gain * (log_q - sg(log_q)))
        log_q, fit = log_q.sum(), jnp.zeros(())
        if baseline == "loo" and self.num_particles > 1:
            total = jax.lax.psum(sg(k), PARTICLES)
            b = (total - sg(k)) / (self.num_particles - 1)
        elif baseline == "average" or callable(baseline):
            b = self.learned_baseline(site, baseline)
            fit = -((b - sg(k - costs)) ** 2) / 2
            b = b + costs
        else:
            b = costs + (0.0 if isinstance(baseline, str | None) else baseline)
            if isinstance(baseline, str | None):
                _warn_without_baseline(site)
        return k + sg(k - b) * (log_q - sg(log_q)) + fit - sg(fit)

    def learned_baseline(
        self, site: Site, baseline: str | int | float | Callable | None
    ) -> jax.Array:
        """Return the value of a baseline with parameters.

        Its own gradient is that of least squares, and the objective's gradient leaves it alone.
        """
        params = self.call.params or {}
        if not callable(baseline):
            return params.get(moving_average_name(site), jnp.zeros(()))
        seeded = handlers.seed(baseline, named_key(self.call.key, site.id))
        program: Any = handlers.substitute(seeded, data=params)
        return jnp.reshape(program(*self.call.args, **self.call.kwargs), ())


def _sum_over_values(site: Site, at: Continuation) -> jax.Array:
    """Return sum_v q(v) k(v) over all values of all elements of a site."""
    dims = len(site.batch_shape)
    states = jnp.moveaxis(site.extras["states"], dims, 0)
    table = jnp.moveaxis(site.extras["log_q"], dims, 0)
    count, elements = len(states), table[0].size
    axes = jnp.meshgrid(*[jnp.arange(count)] * elements, indexing="ij")
    grid = jnp.stack(axes, -1).reshape(-1, elements)

    def one(index: jax.Array) -> jax.Array:
        index = index.reshape(1, *table.shape[1:])
        events = index.reshape(*index.shape, *(1,) * site.event_dim)
        value = jnp.take_along_axis(states, events, 0)[0]
        weight = jnp.exp(jnp.take_along_axis(table, index, 0).sum())
        return weight * at(value)

    return jax.vmap(one)(grid).sum()


def _add_replacements(site: Site, k: jax.Array, at: Continuation) -> jax.Array:
    """Return k + sum_j (c_j - sg c_j) sg(k(x_j) - k), with one element replaced at a time."""
    dims, shape = len(site.batch_shape), site.value.shape[: site.value.ndim - site.event_dim]
    values = jnp.moveaxis(site.extras["values"], dims, 0)
    coefficients = jnp.moveaxis(site.extras["coefficients"], dims, 0)
    kinds, event = len(values), site.value.shape[len(shape) :]
    elements = coefficients[0].size
    flat = site.value.reshape(elements, *event)
    values = values.reshape(kinds, elements, *event)
    coefficients = coefficients.reshape(kinds, elements)

    def one(j: jax.Array, i: jax.Array) -> jax.Array:
        return at(flat.at[i].set(values[j, i]).reshape(site.value.shape))

    kind, element = jnp.meshgrid(jnp.arange(kinds), jnp.arange(elements), indexing="ij")
    others = sg(jax.vmap(one)(kind.ravel(), element.ravel()))
    return k + jnp.sum((coefficients.ravel() - sg(coefficients.ravel())) * (others - sg(k)))


def _mean_of_others(num_draws: int, swapped: Continuation) -> jax.Array:
    """Return the leave-one-out baseline of each of K draws, shape (K,).

    It is the mean, over the other draws, of the objective with the draw overwritten by that one.
    """
    place, other = jnp.meshgrid(jnp.arange(num_draws), jnp.arange(1, num_draws), indexing="ij")
    place, other = place.ravel(), ((place + other) % num_draws).ravel()

    def one(place: jax.Array, other: jax.Array) -> jax.Array:
        return swapped(jnp.arange(num_draws).at[place].set(other))

    return sg(jax.vmap(one)(place, other).reshape(num_draws, num_draws - 1).mean(1))


def moving_average_name(site: Site) -> str:
    """Return the name of the parameter that holds the moving average of a site's baseline."""
    return f"baseline/{site.id}"


def _warn_without_baseline(site: Site) -> None:
    """Warn that a site has a score term of large variance."""
    name = site.id.partition("/")[2]
    warnings.warn(
        f"Site '{name}' has Reinforce without a baseline, whose variance is large: draw several "
        "with q.sim(K) or num_particles above 1, or take Reinforce('average'), Enum() or MVD().",
        stacklevel=2,
    )
