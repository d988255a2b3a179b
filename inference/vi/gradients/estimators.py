"""Gradient estimators, one per sample site: how draws x ~ q(x; theta) give d/dtheta E[k(x)].

k is all that happens after the site is drawn. With sg the identity whose derivative is zero, each
estimator writes a scalar whose value and whose derivative are both unbiased. So one reverse pass
differentiates the whole program:

    Reparam     x = g(noise; theta),    k(x)
    Implicit    x of a cdf F,           k(x) with dx/dtheta = -(dF/dtheta) / q(x)
    Reinforce   x drawn,                k(sg x) + sg(k - b) (log q(x) - sg log q(x))
    Enum        every x,                sum_v q(v) k(v)
    MVD         x drawn,                k(sg x) + sum_j (c_j - sg c_j) sg(k(x_j) - k(x))

MVD, the measure-valued derivative, has for each element of the site a few replacements x_j and
coefficients c_j(theta) with d/dtheta E[k] = sum_j dc_j/dtheta E[k(x_j) - k(x)].

References: Becker et al. (2024), PLDI, "Probabilistic Programming with Programmable Variational
Inference"; Mohamed et al. (2020), arXiv:1906.10652; Figurnov et al. (2018), arXiv:1805.08498;
leave-one-out baselines: Mnih and Rezende (2016), arXiv:1602.06725.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from numpyro.distributions import Distribution

from inference.core.typing import Key, SiteArrays
from inference.settings import AbstractSettings
from inference.vi.gradients.elements import (
    count_elements,
    count_states,
    depends_on_parameters,
    display_name,
    element_distribution,
    element_log_probs,
    enumerate_states,
    is_discrete,
    sample_once,
)
from inference.vi.gradients.replacements import REPLACEMENTS, other_states

# the most runs of the program for one enumerated site, and the number up to which Enum is the
# default
MOST_RUNS = 1024
FEW_RUNS = 16


class EstimatorError(ValueError):
    """A site cannot have the estimator that was asked for."""


class AbstractEstimator(AbstractSettings, abc.ABC):
    """A way for the gradient to pass one sample site.

    Final classes are frozen dataclasses of settings.

    Attributes:
        local: whether the gradient passes through the drawn value itself.
    """

    local = False

    @abc.abstractmethod
    def refusal(self, distribution: Distribution, copies: int) -> str | None:
        """Return why a site with this distribution cannot have this estimator, or None.

        Args:
            distribution: the distribution of the site.
            copies: the number of independent copies of the site.
        """

    def draw(self, distribution: Distribution, key: Key) -> jax.Array:
        """Draw a value as the program sees it."""
        return sg(sample_once(distribution, key))

    def prepare(self, distribution: Distribution, value: jax.Array, key: Key) -> SiteArrays:
        """Return what the gradient will need of the distribution, as arrays."""
        # without masks and scales: the log probability of what was drawn
        return {"log_q": element_log_probs(distribution, value[None]).sum()}


@dataclasses.dataclass(frozen=True)
class Reparam(AbstractEstimator):
    """The pathwise derivative: the draw is a differentiable function of parameters and noise.

    It needs an objective that is continuous in the draw.

    Attributes:
        stick: whether to add the score at the draw, whose mean is zero, as a control variate.
            With the ELBO the score then cancels, and the gradient vanishes where q is the
            posterior ("sticking the landing", Roeder et al. 2017, arXiv:1703.09194).

    Example:
        >>> Reparam(stick=True).local
        True
    """

    local = True
    stick: bool = False

    def refusal(self, distribution: Distribution, copies: int) -> str | None:
        if distribution.has_rsample:
            return None
        name = display_name(distribution)
        return f"{name} has no differentiable sampler; take Enum(), MVD() or Reinforce()"

    def draw(self, distribution: Distribution, key: Key) -> jax.Array:
        return sample_once(distribution, key)


@dataclasses.dataclass(frozen=True)
class Implicit(AbstractEstimator):
    """The pathwise derivative from the distribution function, for draws that have no other.

    x = sg x - (F(sg x; theta) - sg F) / q(sg x). A differentiable sampler is taken if the
    distribution has one; that of Gamma, Beta, Student's t and Dirichlet in NumPyro is implicit.

    Example:
        >>> Implicit().local
        True
    """

    local = True

    def refusal(self, distribution: Distribution, copies: int) -> str | None:
        base = element_distribution(distribution)
        has_cdf = (
            type(base).cdf is not Distribution.cdf
            and not is_discrete(base)
            and not base.event_shape
        )
        if distribution.has_rsample or has_cdf:
            return None
        return (
            f"{display_name(distribution)} has no distribution function of one real variable; "
            "take Enum(), MVD() or Reinforce()"
        )

    def draw(self, distribution: Distribution, key: Key) -> jax.Array:
        if distribution.has_rsample:
            return sample_once(distribution, key)
        x, base = sg(sample_once(distribution, key)), element_distribution(distribution)
        below: Any = base.cdf(x)
        return x - (below - sg(below)) / sg(jnp.exp(base.log_prob(x)))


@dataclasses.dataclass(frozen=True)
class Reinforce(AbstractEstimator):
    """The score function, for any distribution; it needs a baseline b to be of use.

    Attributes:
        baseline: "loo" uses the K draws of `sim(K)`, or the independent particles of an
            expectation: for each draw, the mean of what the objective would be with the draw
            overwritten by one of the others. "average" is a moving average of the objective. A
            number is that number. A function of the data gives its value, and its
            `numpyro.param` sites are learned by least squares. None is no baseline.

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
                f"Reinforce(baseline={b!r}): expected 'loo', 'average', a number, a function of "
                "the data, or None."
            )

    def refusal(self, distribution: Distribution, copies: int) -> str | None:
        base = element_distribution(distribution)
        if not is_discrete(base) and depends_on_parameters(base):
            return (
                f"the support of {display_name(distribution)} depends on parameters, which a "
                "score cannot see; take Reparam() or Implicit()"
            )
        return None


@dataclasses.dataclass(frozen=True)
class Enum(AbstractEstimator):
    """The exact sum over all values of a site with few of them.

    All elements of the site are enumerated jointly.

    Example:
        >>> Enum().local
        False
    """

    def refusal(self, distribution: Distribution, copies: int) -> str | None:
        states, elements = count_states(distribution), copies * count_elements(distribution)
        if states is None:
            name = display_name(distribution)
            return f"{name} has no finite support to sum over; take MVD() or Reinforce()"
        if states**elements > MOST_RUNS:
            return (
                f"{elements} draws with {states} values each would need {states}^{elements} runs, "
                f"above {MOST_RUNS}; take MVD(), which needs {elements * (states - 1)}, or "
                "Reinforce()"
            )
        return None

    def prepare(self, distribution: Distribution, value: jax.Array, key: Key) -> SiteArrays:
        """Return all values of the elements and their log probabilities."""
        states = enumerate_states(distribution)
        return {"states": states, "log_q": element_log_probs(distribution, states)}


@dataclasses.dataclass(frozen=True)
class MVD(AbstractEstimator):
    """The measure-valued derivative: differences of the objective between coupled draws.

    There is one pair of draws per element and parameter. It works for finite supports, Normal,
    Poisson and Gamma, and needs no continuity and no baseline. For Gamma the derivative in the
    concentration is that of the score function with an independent draw as its baseline.

    Example:
        >>> MVD().local
        False
    """

    def refusal(self, distribution: Distribution, copies: int) -> str | None:
        base = element_distribution(distribution)
        if count_states(distribution) is not None or isinstance(base, tuple(REPLACEMENTS)):
            return None
        return (
            f"{display_name(distribution)} has no measure-valued derivative here; take Reparam() "
            "where it can, or Reinforce()"
        )

    def prepare(self, distribution: Distribution, value: jax.Array, key: Key) -> SiteArrays:
        """Return replacements for each element and their coefficients; see `replacements.py`."""
        base = element_distribution(distribution)
        for cls, replacements in REPLACEMENTS.items():
            if isinstance(base, cls):
                values, coefficients = replacements(base, value, key)
                return {"values": sg(values), "coefficients": coefficients}
        values, coefficients = other_states(distribution, value)
        return {"values": values, "coefficients": coefficients}


def default_estimator(distribution: Distribution, copies: int) -> AbstractEstimator:
    """Choose an estimator.

    It is Reparam if possible, Enum for few values, MVD for more, and Reinforce with leave-one-out
    baselines otherwise.
    """
    states = count_states(distribution)
    if distribution.has_rsample:
        return Reparam()
    if states is not None and states ** (copies * count_elements(distribution)) <= FEW_RUNS:
        return Enum()
    return MVD() if MVD().refusal(distribution, copies) is None else Reinforce()
