"""From runs of an objective to one estimate with an unbiased value and an unbiased derivative.

The first site whose gradient does not pass through its value is outermost, and the rest of the program, run again with that
site overridden, is the k of its estimator (`estimators.py` has the formulas).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from numpyro import handlers

from inference.core.keys import named_key
from inference.vi.gradients.estimators import MVD, Enum, EstimatorError, Reinforce
from inference.vi.gradients.programs import Call, Site
from inference.vi.gradients.runs import ObjectiveRun

PARTICLES = "bayesdl particles"  # the axis of independent estimates
Ran = tuple[ObjectiveRun, jax.Array]  # a run and its value


class Resolver:
    """Turns runs of an objective into one estimate.

    Args:
        again: runs the objective, given overrides, swaps and what is resolved (see `Pass`).
        call: how its programs are run.
        num_particles: independent estimates made side by side along `PARTICLES`.
    """

    def __init__(
        self,
        again: Callable[[Mapping, Mapping, Collection[str]], Ran],
        call: Call,
        num_particles: int,
    ) -> None:
        self.again, self.call, self.num_particles = again, call, num_particles

    def estimate(self) -> jax.Array:
        ran = self.again({}, {}, ())
        unknown = set(self.call.estimators) - ran[0].drawn
        if unknown:
            raise EstimatorError(
                f"estimators: no site '{sorted(unknown)[0]}' is drawn, only {sorted(ran[0].drawn)}."
            )
        return self.estimate_rest(ran, frozenset(), only_value=False)

    def estimate_rest(self, ran: Ran, done: frozenset[str], only_value: bool) -> jax.Array:
        """The estimate of what a run's remaining sites leave open.

        Args:
            ran: the run and its value.
            done: ids of the sites that are resolved.
            only_value: whether no derivative is wanted, so that only `Enum` has anything to do.
        """
        now, value = ran
        site = next((site for site in now.sites if site.id not in done), None)
        if site is None:
            return value
        rest = done | {site.id}

        def here() -> jax.Array:
            return self.estimate_rest(ran, rest, only_value)

        def at(value: jax.Array, only_value: bool = only_value) -> jax.Array:
            return self.estimate_rest(
                self.again({**now.overrides, site.id: value}, now.swaps, rest), rest, only_value
            )

        def swapped(places: jax.Array) -> jax.Array:
            assert site.group is not None
            return self.estimate_rest(
                self.again(now.overrides, {**now.swaps, site.group: places}, rest), rest, True
            )

        if isinstance(site.estimator, Enum):
            return sum_over_values(site, at)
        if only_value:
            return here()
        if isinstance(site.estimator, MVD):
            return add_replacements(site, here(), functools.partial(at, only_value=True))
        assert isinstance(site.estimator, Reinforce)
        return self.add_score_term(
            site, site.estimator.baseline, here(), now.costs_before(site), swapped
        )

    def add_score_term(
        self, site: Site, baseline: Any, k: jax.Array, costs: jax.Array, swapped: Callable
    ) -> jax.Array:
        """K + sg(k - b) (log q - sg log q), see `estimators.Reinforce`."""
        log_q = site.extras["log_q"]
        if baseline == "loo" and site.group is not None and site.batch_shape[0] > 1:
            log_q = log_q.reshape(site.batch_shape[0], -1).sum(1)
            gain = sg(k - mean_of_others(site.batch_shape[0], swapped))
            return k + jnp.sum(gain * (log_q - sg(log_q)))
        log_q, fit = log_q.sum(), jnp.zeros(())
        if baseline == "loo" and self.num_particles > 1:
            many = self.num_particles
            b = (jax.lax.psum(sg(k), PARTICLES) - sg(k)) / (many - 1)
        elif baseline == "average" or callable(baseline):
            b = self.learned_baseline(site, baseline)
            fit = -((b - sg(k - costs)) ** 2) / 2
            b = b + costs
        else:
            b = costs + (0.0 if baseline in (None, "loo") else baseline)
            if baseline in (None, "loo"):
                warn_without_baseline(site)
        return k + sg(k - b) * (log_q - sg(log_q)) + fit - sg(fit)

    def learned_baseline(self, site: Site, baseline: Any) -> jax.Array:
        """A baseline with parameters; its own gradient is that of least squares, and the objective's leaves it alone."""
        params = self.call.params or {}
        if baseline == "average":
            return params.get(moving_average_name(site), jnp.zeros(()))
        program: Any = handlers.substitute(
            handlers.seed(baseline, named_key(self.call.key, site.id)), data=params
        )
        return jnp.reshape(program(*self.call.args, **self.call.kwargs), ())


def sum_over_values(site: Site, at: Callable) -> jax.Array:
    """sum_v q(v) k(v) over all values of all elements of a site."""
    lanes = len(site.batch_shape)
    states = jnp.moveaxis(site.extras["states"], lanes, 0)
    table = jnp.moveaxis(site.extras["log_q"], lanes, 0)
    count, elements = len(states), table[0].size
    grid = jnp.stack(jnp.meshgrid(*[jnp.arange(count)] * elements, indexing="ij"), -1).reshape(
        -1, elements
    )

    def one(index: jax.Array) -> jax.Array:
        index = index.reshape(1, *table.shape[1:])
        value = jnp.take_along_axis(states, index.reshape(*index.shape, *(1,) * site.event_dim), 0)[
            0
        ]
        weight = jnp.exp(jnp.take_along_axis(table, index, 0).sum())
        return weight * at(value)

    return jax.vmap(one)(grid).sum()


def add_replacements(site: Site, k: jax.Array, at: Callable) -> jax.Array:
    """K + sum_j (c_j - sg c_j) sg(k(x_j) - k), one element replaced at a time; see `estimators.MVD`."""
    lanes, shape = len(site.batch_shape), site.value.shape[: site.value.ndim - site.event_dim]
    values = jnp.moveaxis(site.extras["values"], lanes, 0)
    coefficients = jnp.moveaxis(site.extras["coefficients"], lanes, 0)
    kinds, event = len(values), site.value.shape[len(shape) :]
    elements = coefficients[0].size
    flat = site.value.reshape(elements, *event)
    values, coefficients = (
        values.reshape(kinds, elements, *event),
        coefficients.reshape(kinds, elements),
    )

    def one(j: jax.Array, i: jax.Array) -> jax.Array:
        return at(flat.at[i].set(values[j, i]).reshape(site.value.shape))

    kind, element = jnp.meshgrid(jnp.arange(kinds), jnp.arange(elements), indexing="ij")
    others = sg(jax.vmap(one)(kind.ravel(), element.ravel()))
    return k + jnp.sum((coefficients.ravel() - sg(coefficients.ravel())) * (others - sg(k)))


def mean_of_others(many: int, swapped: Callable) -> jax.Array:
    """For each of K draws the mean over the others of the objective with the draw overwritten by that one, shape (K,)."""
    place, other = jnp.meshgrid(jnp.arange(many), jnp.arange(1, many), indexing="ij")
    place, other = place.ravel(), ((place + other) % many).ravel()

    def one(place: jax.Array, other: jax.Array) -> jax.Array:
        return swapped(jnp.arange(many).at[place].set(other))

    return sg(jax.vmap(one)(place, other).reshape(many, many - 1).mean(1))


def moving_average_name(site: Site) -> str:
    """The parameter that holds the moving average of a site's baseline."""
    return f"baseline/{site.id}"


def warn_without_baseline(site: Site) -> None:
    name = site.id.partition("/")[2]
    warnings.warn(
        f"Site '{name}' has Reinforce without a baseline, whose variance is large: draw several with q.sim(K) or num_particles "
        "above 1, or take Reinforce('average'), Enum() or MVD().",
        stacklevel=2,
    )
