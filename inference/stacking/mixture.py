"""The mixture of what several members predict, as one distribution of new rows.

p(y | x) = sum_k w_k mean_s p_k(y | x, z_ks),    z_ks ~ p_k(z | data)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from numpyro.distributions import Distribution

from inference.core.result import AbstractPredictive, Conditional
from inference.core.typing import Key
from inference.wrappers import class_probabilities, entropy, marginal_cdf, num_classes


class MemberMixture(Distribution):
    """A mixture over members, and over the draws of each.

    A sample takes all rows from one draw of one member.

    Args:
        parts: a distribution of each member, mapped over its draws, as by `jax.vmap`.
        log_weights: the logarithms of the members' weights, shape (members,).
    """

    arg_constraints: ClassVar = {}
    pytree_data_fields = ("parts", "log_weights")

    def __init__(
        self,
        parts: tuple[Distribution, ...],
        log_weights: jax.Array,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.parts, self.log_weights = parts, log_weights
        # the shapes of what JAX mapped over are those of one draw
        first = parts[0]
        super().__init__(first.batch_shape, first.event_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The support of the first member; all have the same."""
        return self.parts[0].support

    def _over(self, function: Callable[[Any], jax.Array]) -> list[jax.Array]:
        """Return a function of each member's distributions, with a leading axis over draws."""
        return [jax.vmap(function)(part) for part in self.parts]

    def _average(self, values: list[jax.Array]) -> jax.Array:
        """Return the average over draws, and over members by their weights."""
        weights = jnp.exp(self.log_weights)
        return jnp.asarray(sum(w * v.mean(0) for w, v in zip(weights, values, strict=True)))

    @property
    def mean(self) -> jax.Array:
        """The mean."""
        return self._average(self._over(lambda one: one.mean))

    @property
    def variance(self) -> jax.Array:
        """The variance: that inside of members, and that of their means."""
        return self._average(self._over(lambda one: one.variance)) + self.variance_of_means

    @property
    def variance_of_means(self) -> jax.Array:
        """The variance of the means over draws and members."""
        mean = self.mean
        return self._average(self._over(lambda one: (one.mean - mean) ** 2))

    @property
    def probs(self) -> jax.Array:
        """The probabilities of classes, shape (rows, classes)."""
        return self._average(self._over(class_probabilities))

    @property
    def expected_entropy(self) -> jax.Array:
        """The entropy of classes, averaged over draws and members, in nats."""

        return self._average(self._over(lambda one: entropy(class_probabilities(one))))

    def log_prob(self, value: Any, intermediates: object = None) -> jax.Array:
        """Return the log density of each row."""
        logs = [
            logsumexp(values, axis=0) - jnp.log(len(values))
            for values in self._over(lambda one: one.log_prob(value))
        ]
        weighted = [log + weight for log, weight in zip(logs, self.log_weights, strict=True)]
        return logsumexp(jnp.stack(weighted), axis=0)

    def cdf(self, value: Any) -> jax.Array:
        """Return P(Y <= value) of each row."""
        return self._average(self._over(lambda one: marginal_cdf(one, value)))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw all rows from one draw of one member, for each sample."""
        if sample_shape:
            keys = jax.random.split(key, math.prod(sample_shape))
            flat = jax.vmap(self.sample)(keys)
            return flat.reshape((*sample_shape, *flat.shape[1:]))
        key, which = jax.random.split(key)
        drawn = []
        for number, part in enumerate(self.parts):
            inside, choice = jax.random.split(jax.random.fold_in(key, number))
            total = jax.tree.leaves(part)[0].shape[0]
            index = jax.random.randint(choice, (), 0, total)
            one: Any = jax.tree.map(lambda leaf, index=index: leaf[index], part)
            drawn.append(one.sample(inside))
        return jnp.stack(drawn)[jax.random.categorical(which, self.log_weights)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class MixturePredictive(AbstractPredictive):
    """The predictive of an average, which needs no draws: it holds those of its members.

    Attributes:
        parts: the predictive of each member.
        draws: the draws of each member; empty for one without.
        log_weights: the logarithms of the members' weights.
        joint: for each member whether its rows vary together given a draw.
    """

    parts: tuple
    draws: tuple
    log_weights: Any
    joint: tuple[bool, ...] = dataclasses.field(metadata={"static": True})

    def __call__(
        self, latents: dict, key: Any, *args: Any, joint: bool = False, **kwargs: Any
    ) -> Conditional:
        found = []
        for part, draws, together in zip(self.parts, self.draws, self.joint, strict=True):
            asked = {"joint": True} if joint and together else {}
            found.append(_over_draws(part, draws, key, args, {**kwargs, **asked}))
        parts = tuple(one.distribution for one in found)
        mixture = MemberMixture(parts, jnp.asarray(self.log_weights))
        if joint:
            # only samples are asked for
            return Conditional(mixture, jnp.zeros(()))
        known = mixture._average([one.epistemic for one in found])
        first = jax.tree.map(lambda leaf: leaf[0], parts[0])
        if num_classes(first) is not None:
            return Conditional(mixture, entropy(mixture.probs) - mixture.expected_entropy + known)
        return Conditional(mixture, mixture.variance_of_means + known)


def _over_draws(
    predictive: AbstractPredictive, draws: dict, key: Any, args: tuple, kwargs: dict
) -> Conditional:
    """Return the conditionals of a member at all its draws, along a leading axis."""
    if not draws:
        one = predictive({}, key, *args, **kwargs)
        return jax.tree.map(lambda leaf: leaf[None], one)
    keys = jax.random.split(key, len(jax.tree.leaves(draws)[0]))
    return jax.lax.map(
        lambda z: predictive(z[0], z[1], *args, **kwargs),
        (draws, keys),
        batch_size=predictive.draws_at_once,
    )
