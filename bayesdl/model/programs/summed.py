"""Predictions of programs whose discrete sites are summed out: mixtures over the sites' values.

A site with a value for each row, such as the component of a mixture, is summed out in predictions:
p(y | z) = sum over s of p(s | z) p(y | s, z). A site that rows share, such as a change point, the
class of a group or the states of a Markov chain, is drawn from its posterior, like a parameter.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from numpyro import handlers
from numpyro.distributions import Distribution

from bayesdl.model.base import site_distribution
from bayesdl.model.programs.new_data import with_further_draws
from inference.core.enumeration.terms import Term, Terms, enumerated_trace
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive, Conditional
from inference.core.typing import Key, NewEntries, Program
from inference.wrappers import marginal_cdf


class SummedMixture(Distribution):
    """A mixture of distributions that stand along the leading axes of one.

    Args:
        base: the components.
        log_weights: their log probabilities, in the batch shape of the components.
        axes: the number of leading axes that are summed over.
    """

    pytree_data_fields = ("base", "log_weights")
    pytree_aux_fields = ("axes",)

    def __init__(self, base: Distribution, log_weights: jax.Array, axes: int) -> None:
        self.base, self.log_weights, self.axes = base, log_weights, axes
        super().__init__(tuple(base.batch_shape[axes:]), tuple(base.event_shape))

    @property
    def support(self) -> Any:
        """The support of the components."""
        return self.base.support

    def _weights(self, value: jax.Array) -> jax.Array:
        """Return the weights with trailing axes for those of a value."""
        weights = jnp.exp(self.log_weights)
        return weights.reshape(weights.shape + (1,) * (value.ndim - weights.ndim))

    def _sum(self, value: Any) -> jax.Array:
        """Return the weighted sum over components."""
        value = jnp.asarray(value)
        return jnp.sum(self._weights(value) * value, tuple(range(self.axes)))

    @property
    def mean(self) -> jax.Array:
        """The mean of the mixture."""
        return self._sum(self.base.mean)

    @property
    def variance(self) -> jax.Array:
        """The variance of the mixture: that within components, and that between them."""
        between = jnp.square(jnp.asarray(self.base.mean) - self.mean[(None,) * self.axes])
        return self._sum(jnp.asarray(self.base.variance) + between)

    @property
    def probs(self) -> jax.Array:
        """The probabilities of classes."""
        return self._sum(self.base.probs)  # pyright: ignore[reportAttributeAccessIssue]

    def log_prob(self, value: jax.Array, intermediates: object = None) -> jax.Array:
        """Return the log density of the mixture."""
        value = jnp.asarray(value)
        terms = jnp.asarray(self.base.log_prob(value[(None,) * self.axes]))
        return logsumexp(terms + self.log_weights, tuple(range(self.axes)))

    def cdf(self, value: jax.Array) -> jax.Array:
        """Return P(Y <= value), for each target by itself."""
        return self._sum(marginal_cdf(self.base, jnp.asarray(value)[(None,) * self.axes]))

    def sample(self, key: Key | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw a component for each row, and a value from it."""
        assert key is not None
        shape = self.log_weights.shape[self.axes :]
        choice, values = jax.random.split(key)
        logits = self.log_weights.reshape(-1, *shape)
        index = jax.random.categorical(choice, logits, axis=0, shape=(*sample_shape, *shape))
        drawn = jnp.asarray(self.base.sample(values, sample_shape))
        event = drawn.shape[len(sample_shape) + self.log_weights.ndim :]
        drawn = drawn.reshape(*sample_shape, -1, *shape, *event)
        place = len(sample_shape)
        index = jnp.expand_dims(index, place)
        index = index.reshape(index.shape + (1,) * len(event))
        return jnp.take_along_axis(drawn, index, place).squeeze(place)


def summed_predictive(problem: Problem, site: str) -> AbstractPredictive:
    """Return the predictive of a site of a program whose discrete sites are summed out."""
    rows = tuple(problem.trace[site]["fn"].batch_shape)
    local = frozenset(
        name
        for name in problem.summed
        if rows and problem.unobserved[name] == rows and not _is_step(problem.trace[name])
    )
    shared = tuple(sorted(problem.summed - local))
    return SummedPredictive(problem.program, site, local, shared, problem.first_free_dim, len(rows))


def _is_step(site: dict) -> bool:
    """Whether a site is a step of a Markov chain."""
    return "_scan_current_index" in site["infer"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SummedPredictive(AbstractPredictive):
    """The distribution of one site of a program whose discrete sites are summed out.

    Attributes:
        program: the program.
        site: the name of the site.
        local: the sites with a value for each row, which are summed out here too.
        shared: the sites that rows share, whose draws are among the latent sites.
        dim: the first dimension, counted from the right, that no batch takes.
        ndim: the number of dimensions of the rows.
        entries: the latent sites that have entries without draws.
    """

    program: Program = dataclasses.field(metadata={"static": True})
    site: str = dataclasses.field(metadata={"static": True})
    local: frozenset[str] = dataclasses.field(metadata={"static": True})
    shared: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    dim: int = dataclasses.field(metadata={"static": True})
    ndim: int = dataclasses.field(metadata={"static": True})
    entries: NewEntries = dataclasses.field(default=NewEntries(), metadata={"static": True})

    def with_new_entries(self, entries: NewEntries) -> SummedPredictive:
        return dataclasses.replace(self, entries=entries)

    @property
    def shared_sites(self) -> tuple[str, ...]:
        return self.shared

    def __call__(self, latents: dict, key: Key, *args: object, **kwargs: object) -> Conditional:
        program, rest = with_further_draws(self.program, self.entries, latents, key)
        if not self.local:
            distribution = site_distribution(program, self.site, rest, key, args, kwargs)
            return Conditional(distribution, jnp.zeros(distribution.batch_shape))
        given = {name: rest[name] for name in self.shared if name in rest}
        program = handlers.condition(handlers.seed(program, key), data=given)
        program = handlers.substitute(program, data=rest)
        trace = enumerated_trace(program, self.local, self.dim, args, kwargs)
        distribution = self._mixture(trace)
        return Conditional(distribution, jnp.zeros(distribution.batch_shape))

    def _mixture(self, trace: dict[str, dict]) -> Distribution:
        """Return the mixture of the site's distributions at all values of the local sites."""
        site, terms = trace[self.site], Terms.of_trace(trace)
        base = site["fn"]
        axes = len(base.batch_shape) - self.ndim
        if axes <= 0:
            return base
        prior = [term for term in terms.terms if term.enumerated]
        shape = tuple(base.batch_shape)
        names = {d: n for d, n in site["infer"]["names"].items() if shape[d] > 1}
        own = Term(self.site, jnp.zeros(shape), names, 1.0, False, True, True, None)
        alone = Terms((*prior, own), terms.plates)
        with jax.numpy_rank_promotion("allow"):
            weights = jax.grad(lambda added: alone.log_sum({self.site: added}))(own.log_prob)
        return SummedMixture(base, jnp.log(weights), axes)
