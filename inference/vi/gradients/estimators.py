"""Gradient estimators, one per sample site: how d/dtheta E[k(x)] is made from draws x ~ q(x; theta).

k is all that happens after the site is drawn. With sg the identity whose derivative is zero, each estimator writes a
scalar whose value and whose derivative are both unbiased, so that one reverse pass differentiates the whole program:

    Reparam     x = g(noise; theta),                      k(x)
    Implicit    x of a cdf F,                             k(x) with dx/dtheta = -(dF/dtheta) / q(x)
    Reinforce   x drawn,                                  k(sg x) + sg(k - b) (log q(x) - sg log q(x))
    Enum        every x,                                  sum_v q(v) k(v)
    MVD         x drawn,                                  k(sg x) + sum_j (c_j - sg c_j) sg(k(x_j) - k(x))

MVD, the measure-valued derivative, has for each element of the site a few replacements x_j and coefficients c_j(theta) with
d/dtheta E[k] = sum_j dc_j/dtheta E[k(x_j) - k(x)]. References: Becker et al. (2024), PLDI, "Probabilistic Programming with
Programmable Variational Inference"; Mohamed et al. (2020), arXiv:1906.10652; Figurnov et al. (2018), arXiv:1805.08498;
leave-one-out baselines: Mnih and Rezende (2016), arXiv:1602.06725.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer
from jax.lax import stop_gradient as sg

from inference.core.keys import named_key

Law = Any  # a NumPyro distribution
MOST_RUNS = 1024  # of the program, for one enumerated site
FEW_RUNS = 16  # for which Enum is the default
NUDGE = 1e-30  # nothing beside 1, and not zero


class EstimatorError(ValueError):
    """A site cannot have the estimator that was asked for."""


class AbstractEstimator(abc.ABC):
    """How the gradient passes one sample site. Final classes are frozen dataclasses of settings."""

    local = False  # whether the gradient passes through the drawn value itself

    @abc.abstractmethod
    def refusal(self, law: Law, runs: int) -> str | None:
        """Why a site with this law cannot have this estimator, or None; `runs` counts the independent copies of the site."""

    def draw(self, law: Law, key: jax.Array) -> jax.Array:
        """A draw as the program sees it."""
        return sg(law.sample(key))

    def prepare(self, law: Law, value: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """What the gradient will need of the law, as arrays."""
        return {
            "log_q": element_log_probs(law, value[None]).sum()
        }  # without masks and scales: of what was drawn


@dataclasses.dataclass(frozen=True)
class Reparam(AbstractEstimator):
    """The pathwise derivative: the draw is a differentiable function of the parameters and of noise.

    Needs an objective that is continuous in the draw.

    Attributes:
        stick: adds the score at the draw, whose mean is zero, as a control variate: with the ELBO the score then cancels
            and the gradient vanishes where q is the posterior ("sticking the landing", Roeder et al. 2017, arXiv:1703.09194).

    Example:
        >>> Reparam(stick=True).local
        True
    """

    local = True
    stick: bool = False

    def refusal(self, law: Law, runs: int) -> str | None:
        if law.has_rsample:
            return None
        return (
            f"{display_name(law)} has no differentiable sampler; take Enum(), MVD() or Reinforce()"
        )

    def draw(self, law: Law, key: jax.Array) -> jax.Array:
        return law.sample(key)


@dataclasses.dataclass(frozen=True)
class Implicit(AbstractEstimator):
    """The pathwise derivative without a sampler that can be differentiated: from the distribution function.

    x = sg x - (F(sg x; theta) - sg F) / q(sg x). Where the law has a differentiable sampler (of Gamma, Beta, Student's t and
    Dirichlet NumPyro's is the implicit one) that is taken.

    Example:
        >>> Implicit().local
        True
    """

    local = True

    def refusal(self, law: Law, runs: int) -> str | None:
        base = element_distribution(law)
        has_cdf = (
            type(base).cdf is not dist.Distribution.cdf
            and not base.support.is_discrete
            and not base.event_shape
        )
        if law.has_rsample or has_cdf:
            return None
        return f"{display_name(law)} has no distribution function of one real variable; take Enum(), MVD() or Reinforce()"

    def draw(self, law: Law, key: jax.Array) -> jax.Array:
        if law.has_rsample:
            return law.sample(key)
        x, base = sg(law.sample(key)), element_distribution(law)
        below = base.cdf(x)
        return x - (below - sg(below)) / sg(jnp.exp(base.log_prob(x)))


@dataclasses.dataclass(frozen=True)
class Reinforce(AbstractEstimator):
    """The score function, for any law: needs a baseline b to be of use.

    Attributes:
        baseline: "loo" takes for each of the K draws of `sim(K)`, or of the independent particles of an expectation, what
            the objective would be with the draw overwritten by one of the others, on average; "average" a moving average
            of the objective; a number that number; a function of the data, whose `numpyro.param` sites are learned by
            least squares, its value; None nothing.

    Example:
        >>> Reinforce(baseline=None).local
        False
    """

    baseline: Any = "loo"

    def __post_init__(self) -> None:
        b = self.baseline
        known = (
            b in (None, "loo", "average")
            if isinstance(b, str | None)
            else callable(b) or isinstance(b, float | int)
        )
        if not known:
            raise ValueError(
                f"Reinforce(baseline={b!r}): expected 'loo', 'average', a number, a function of the data, or None."
            )

    def refusal(self, law: Law, runs: int) -> str | None:
        if not element_distribution(law).support.is_discrete and depends_on_parameters(
            element_distribution(law).support
        ):
            return f"the support of {display_name(law)} depends on parameters, which a score cannot see; take Reparam() or Implicit()"
        return None


@dataclasses.dataclass(frozen=True)
class Enum(AbstractEstimator):
    """The exact sum over all values of a site with few of them; all elements of the site are enumerated jointly.

    Example:
        >>> Enum().local
        False
    """

    def refusal(self, law: Law, runs: int) -> str | None:
        states, elements = count_states(law), runs * count_elements(law)
        if states is None:
            return (
                f"{display_name(law)} has no finite support to sum over; take MVD() or Reinforce()"
            )
        if states**elements > MOST_RUNS:
            return (
                f"{elements} draws with {states} values each would need {states}^{elements} runs, above {MOST_RUNS}; take "
                f"MVD(), which needs {elements * (states - 1)}, or Reinforce()"
            )
        return None

    def prepare(self, law: Law, value: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        states = enumerate_states(law)
        return {"states": states, "log_q": element_log_probs(law, states)}


@dataclasses.dataclass(frozen=True)
class MVD(AbstractEstimator):
    """The measure-valued derivative: differences of the objective between coupled draws, one pair per element and parameter.

    For finite supports, Normal, Poisson and Gamma. It needs no continuity and no baseline. Of Gamma the derivative in the
    concentration is that of the score function with an independent draw as its baseline.

    Example:
        >>> MVD().local
        False
    """

    def refusal(self, law: Law, runs: int) -> str | None:
        if count_states(law) is not None or isinstance(
            element_distribution(law), tuple(REPLACEMENTS)
        ):
            return None
        return f"{display_name(law)} has no measure-valued derivative here; take Reparam() where it can, or Reinforce()"

    def prepare(self, law: Law, value: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Replacements for each element, shape (r, *site shape), and their coefficients, shape (r, *elements)."""
        base = element_distribution(law)
        for cls, replacements in REPLACEMENTS.items():
            if isinstance(base, cls):
                values, coefficients = replacements(base, value, key)
                return {"values": sg(values), "coefficients": coefficients}
        states = enumerate_states(law)
        table = jnp.exp(element_log_probs(law, states))
        same = (states == value[None]).reshape(*table.shape, -1).all(-1)
        others = jnp.arange(1, len(states)).reshape(-1, *(1,) * (table.ndim - 1))
        offsets = (same.argmax(0)[None] + others) % len(states)
        events = offsets.reshape(*offsets.shape, *(1,) * (states.ndim - offsets.ndim))
        return {
            "values": jnp.take_along_axis(states, events, 0),
            "coefficients": jnp.take_along_axis(table, offsets, 0),
        }


def normal_replacements(law: Any, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For the location mu +- sigma W, W ~ Rayleigh; for the scale mu + sigma M and mu + sigma M U, M double-sided Maxwell."""
    loc, scale = jnp.broadcast_to(law.loc, x.shape), jnp.broadcast_to(law.scale, x.shape)
    rayleigh = jnp.sqrt(2 * jax.random.exponential(named_key(key, "rayleigh"), x.shape, x.dtype))
    sign = jax.random.rademacher(named_key(key, "sign"), x.shape, x.dtype)
    maxwell = sign * jax.random.maxwell(named_key(key, "maxwell"), x.shape, x.dtype)
    normal = maxwell * jax.random.uniform(named_key(key, "uniform"), x.shape, x.dtype)
    steps = jnp.stack([rayleigh, -rayleigh, maxwell, normal])
    in_loc, in_scale = loc / sg(scale * math.sqrt(2 * math.pi)), scale / sg(scale)
    return loc[None] + scale[None] * steps, jnp.stack([in_loc, -in_loc, in_scale, -in_scale])


def poisson_replacements(law: Any, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """d/drate E[k(x)] = E[k(x + 1) - k(x)]."""
    return (x + 1)[None], jnp.broadcast_to(law.rate, x.shape)[None]


def gamma_replacements(law: Any, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For the rate x + Exponential(rate), which has concentration + 1; for the concentration an independent draw."""
    concentration, rate = (
        jnp.broadcast_to(law.concentration, x.shape),
        jnp.broadcast_to(law.rate, x.shape),
    )
    larger = x + jax.random.exponential(named_key(key, "exponential"), x.shape, x.dtype) / rate
    other = law.sample(named_key(key, "other"), x.shape[: x.ndim - len(law.batch_shape)])
    score = jnp.log(x) + jnp.log(rate) - jax.scipy.special.digamma(concentration)
    coefficients = [-rate * sg(concentration / rate), -concentration * sg(score)]
    return jnp.stack([larger, jnp.broadcast_to(other, x.shape)]), jnp.stack(coefficients)


REPLACEMENTS: dict[type, Callable] = {
    dist.Normal: normal_replacements,
    dist.Poisson: poisson_replacements,
    dist.Gamma: gamma_replacements,
}


def default_estimator(law: Law, runs: int) -> AbstractEstimator:
    """Reparam where possible, Enum for few values, MVD for more, Reinforce with leave-one-out baselines else."""
    states = count_states(law)
    if law.has_rsample:
        return Reparam()
    if states is not None and states ** (runs * count_elements(law)) <= FEW_RUNS:
        return Enum()
    return MVD() if MVD().refusal(law, runs) is None else Reinforce()


def depends_on_parameters(support: Any) -> bool:
    """Whether the bounds of a support are computed."""
    return any(
        isinstance(getattr(support, bound, None), Tracer)
        for bound in ("lower_bound", "upper_bound")
    )


def display_name(law: Law) -> str:
    """The name of a distribution as users write it."""
    return type(element_distribution(law)).__name__.removesuffix("Probs").removesuffix("Logits")


def element_distribution(law: Law) -> Any:
    """The law of one element: without masks, expansion and reinterpreted dimensions, which keep elements independent."""
    while isinstance(law, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        law = law.base_dist
    return law


def count_elements(law: Law) -> int:
    """Independent elements of a site."""
    shape = law.shape()
    return math.prod(shape[: len(shape) - len(element_distribution(law).event_shape)])


def count_states(law: Law) -> int | None:
    """Values of one element, or None where there are infinitely many."""
    base = element_distribution(law)
    if not base.has_enumerate_support:
        return None
    try:
        return base.enumerate_support(expand=False).shape[0]
    except NotImplementedError:
        return None


def enumerate_states(law: Law) -> jax.Array:
    """The values of each element, shape (states, *site shape)."""
    base = element_distribution(law)
    states = base.enumerate_support(expand=False)
    states = states.reshape(states.shape[0], *(1,) * count_expanded_dims(law), *states.shape[1:])
    return jnp.broadcast_to(states, (states.shape[0], *law.shape()))


def element_log_probs(law: Law, states: jax.Array) -> jax.Array:
    """Log probabilities of each element at each of its states, shape (states, *elements)."""
    function = element_distribution(law).log_prob
    for _ in range(1 + count_expanded_dims(law)):
        function = jax.vmap(function)
    return function(states)


def count_expanded_dims(law: Law) -> int:
    """Leading dimensions that expansion added to the law of one element."""
    base = element_distribution(law)
    return len(law.shape()) - len(base.event_shape) - len(base.batch_shape)


def smooth_at_zero_logits(law: Law) -> Law:
    """The same law with the right derivative at logits of zero, where NumPyro's log_prob has that of one side.

    Zero is where parameters often begin.
    """
    if isinstance(law, dist.BernoulliLogits):
        return dist.BernoulliLogits(law.logits + jnp.where(jnp.equal(law.logits, 0), NUDGE, 0.0))
    if isinstance(law, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        base = smooth_at_zero_logits(law.base_dist)
        if base is not law.base_dist:
            law = copy.copy(law)
            law.base_dist = base
    return law
