"""Likelihoods of formulas: their parameters, links, default priors, and which responses they take.

Each is written twice, as a function and as text, which a test compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaincc, gammaln, log_ndtr, ndtr
from jax.typing import ArrayLike
from numpyro.distributions import Distribution

from bayesdl.data.validation import DataError, ModelError
from bayesdl.formula.priors import Prior
from bayesdl.model import likelihoods
from bayesdl.typing import TargetKind

TYPICAL = 2.5  # prior standard deviations, in units of the response over units of a column


class Link(NamedTuple):
    """A link: mean = inverse(predictor).

    Attributes:
        inverse: the inverse link.
        text: the inverse link as Python.
        forward: the link, of a typical value.
    """

    inverse: Callable[[jax.Array], jax.Array]
    text: str
    forward: Callable[[float], float]


LINKS: Mapping[str, Link] = {
    "identity": Link(lambda eta: eta, "{}", lambda mu: mu),
    "log": Link(jnp.exp, "jnp.exp({})", lambda mu: float(np.log(mu)) if mu > 0 else 0.0),
    "softplus": Link(
        jax.nn.softplus,
        "jax.nn.softplus({})",
        lambda mu: float(mu + np.log(-np.expm1(-mu))) if mu > 0 else 0.0,
    ),
    "logit": Link(jax.nn.sigmoid, "jax.nn.sigmoid({})", lambda mu: 0.0),
    "probit": Link(ndtr, "jax.scipy.special.ndtr({})", lambda mu: 0.0),
    "cloglog": Link(
        lambda eta: -jnp.expm1(-jnp.exp(eta)), "-jnp.expm1(-jnp.exp({}))", lambda mu: 0.0
    ),
}
POSITIVE, PROBABILITY = ("log", "softplus"), ("logit", "probit", "cloglog")


class Facts(NamedTuple):
    """What default priors take from the response.

    Attributes:
        centre: its mean.
        scale: its standard deviation, of log-normal ones that of the logarithm.
    """

    centre: float
    scale: float


class Parameter(NamedTuple):
    """A parameter of a likelihood beside its mean.

    Attributes:
        prior: gives its default prior.
        link: the link of a formula for it.
        typical: gives a typical value, where a formula for it is centred.
    """

    prior: Callable[[Facts], Prior]
    link: str = "log"
    typical: Callable[[Facts], float] = lambda facts: 1.0


SIGMA = Parameter(
    lambda facts: Prior.of("Exponential", unit=facts.scale, rate=1 / facts.scale),
    typical=lambda facts: facts.scale,
)
# about the median of each prior is typical
CONCENTRATION = Parameter(
    lambda facts: Prior.of("Gamma", unit=10.0, concentration=2.0, rate=0.1),
    typical=lambda facts: 15.0,
)
SHAPE = Parameter(lambda facts: Prior.of("LogNormal", loc=0.0, scale=1.0))
# above 2, so that mean and variance of the response exist; half of it is below 4
DF = Parameter(lambda facts: Prior.of("Pareto", scale=2.0, alpha=1.0), typical=lambda facts: 4.0)
INFLATION = Parameter(
    lambda facts: Prior.of("Beta", concentration1=1.0, concentration0=1.0), "logit"
)


@dataclasses.dataclass(frozen=True)
class Family:
    """A likelihood of a formula.

    Attributes:
        name: its name.
        kind: the kind of targets.
        links: the links of the mean that it may have, the default first.
        parameters: the parameters beside the mean, by name.
        make: the distribution, given the mean `mu`, the other parameters, and `trials`.
        text: the same as Python.
        support: what responses must be, in words; empty for any number.
        inside: which responses are so.
        in_units: whether the mean has the units of the response: then priors scale with them.
        from_logits: the distribution given the predictor, with the link "logit", and its text.
        censored: whether rows may be right-censored.
    """

    name: str
    kind: TargetKind
    links: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    make: Callable[..., Distribution]
    text: str
    support: str = ""
    inside: Callable[[np.ndarray], np.ndarray] = np.isfinite
    in_units: bool = False
    from_logits: tuple[Callable[..., Distribution], str] | None = None
    censored: bool = False

    def check(self, name: str, y: np.ndarray) -> None:
        """Refuse responses outside of the support.

        Raises:
            DataError: naming the row.
        """
        bad = np.flatnonzero(~self.inside(y))
        if bad.size:
            raise DataError(
                f"The response {name!r} is {y[bad[0]]:g} in row {bad[0]} ({bad.size} such rows): "
                f"likelihood={self.name!r} expects {self.support}."
            )

    def facts(self, y: np.ndarray, offset: ArrayLike = 0.0) -> Facts:
        """Return what default priors take from the response, its spread about an offset."""
        if self.name == "lognormal":
            y = np.log(y)
        spread = float(np.std(y - np.asarray(offset))) if y.size > 1 else 1.0
        return Facts(float(np.mean(y)), spread if spread > 0 else max(abs(float(np.mean(y))), 1.0))

    def scale_of(self, link: str, facts: Facts) -> float:
        """Return the size of the predictor, for default priors of what it is made of."""
        if link == "softplus":
            # its slope at the mean
            return (
                facts.scale / -float(np.expm1(-facts.centre)) if facts.centre > 0 else facts.scale
            )
        return facts.scale if self.in_units and link == "identity" else 1.0


def _whole(y: np.ndarray) -> np.ndarray:
    return (y >= 0) & (y == np.round(y))


def _positive(y: np.ndarray) -> np.ndarray:
    return (y > 0) & np.isfinite(y)


class Censored(dist.RightCensoredDistribution):
    """Right-censored rows, with the moments of what is not censored.

    NumPyro's survival function is 1 - F, which is zero far in the tail, with no slope; here it is
    in logarithms.
    """

    @property
    def mean(self) -> Any:
        """The mean without censoring."""
        return self.base_dist.mean

    @property
    def variance(self) -> Any:
        """The variance without censoring."""
        return self.base_dist.variance

    def cdf(self, value: ArrayLike) -> Any:
        """Return the distribution function without censoring."""
        return self.base_dist.cdf(value)

    def log_prob(self, value: ArrayLike) -> Any:
        """Return the log density of seen rows, log P(Y > y) of censored ones."""
        base, y = self.base_dist, jnp.asarray(value)
        return jnp.where(self.censored, _log_survival(base, y), base.log_prob(y))


def _log_survival(distribution: Distribution, value: jax.Array) -> Any:
    base: Any = distribution
    kind = type(distribution)
    if kind is dist.Weibull:
        return -((value / base.scale) ** base.concentration)
    if kind is dist.LogNormal:
        return log_ndtr((base.loc - jnp.log(value)) / base.scale)
    if kind is dist.Normal:
        return log_ndtr((base.loc - value) / base.scale)
    survival: Any = gammaincc(base.concentration, base.rate * value)
    return jnp.log(jnp.clip(survival, jnp.finfo(survival.dtype).tiny))


def _weibull(mu: jax.Array, shape: jax.Array) -> Distribution:
    return dist.Weibull(mu / jnp.exp(gammaln(1 + 1 / shape)), shape)


def _inflated(base: Distribution, zi: jax.Array) -> Distribution:
    return dist.ZeroInflatedDistribution(base, gate=zi)


_COUNTS = {"kind": "count", "support": "whole numbers >= 0", "inside": _whole}
_REAL = {"kind": "real", "support": "finite numbers", "in_units": True}
_ABOVE = {"kind": "real", "support": "numbers above 0", "inside": _positive}
_NB = "dist.NegativeBinomial2(mu, concentration)"
_ANY: list[dict[str, Any]] = [
    dict(
        name="normal",
        links=("identity", "log", "softplus"),
        parameters={"sigma": SIGMA},
        make=lambda mu, sigma: dist.Normal(mu, sigma),
        text="dist.Normal(mu, sigma)",
        censored=True,
        **_REAL,
    ),
    dict(
        name="student_t",
        links=("identity", "log", "softplus"),
        parameters={"sigma": SIGMA, "df": DF},
        make=lambda mu, sigma, df: dist.StudentT(df, mu, sigma),
        text="dist.StudentT(df, mu, sigma)",
        **_REAL,
    ),
    dict(
        name="lognormal",
        links=("identity",),
        parameters={"sigma": SIGMA},
        make=lambda mu, sigma: dist.LogNormal(mu, sigma),
        text="dist.LogNormal(mu, sigma)",
        censored=True,
        in_units=True,
        **_ABOVE,
    ),
    dict(
        name="gamma",
        links=POSITIVE,
        parameters={"shape": CONCENTRATION},
        make=lambda mu, shape: dist.Gamma(shape, shape / mu),
        text="dist.Gamma(shape, shape / mu)",
        censored=True,
        **_ABOVE,
    ),
    dict(
        name="weibull",
        links=POSITIVE,
        parameters={"shape": SHAPE},
        make=_weibull,
        text="dist.Weibull(mu / jnp.exp(jax.scipy.special.gammaln(1 + 1 / shape)), shape)",
        censored=True,
        **_ABOVE,
    ),
    dict(
        name="beta",
        kind="real",
        links=PROBABILITY,
        parameters={"precision": CONCENTRATION},
        make=lambda mu, precision: dist.Beta(mu * precision, (1 - mu) * precision),
        text="dist.Beta(mu * precision, (1 - mu) * precision)",
        support="numbers between 0 and 1, without these two",
        inside=lambda y: (y > 0) & (y < 1),
    ),
    dict(
        name="bernoulli",
        kind="class",
        links=PROBABILITY,
        parameters={},
        make=lambda mu: dist.Bernoulli(probs=mu),
        text="dist.Bernoulli(probs=mu)",
        from_logits=(lambda eta: dist.Bernoulli(logits=eta), "dist.Bernoulli(logits=eta)"),
    ),
    dict(
        name="binomial",
        links=PROBABILITY,
        parameters={},
        make=lambda mu, trials: dist.Binomial(trials, probs=mu),
        text="dist.Binomial(trials, probs=mu)",
        from_logits=(
            lambda eta, trials: dist.Binomial(trials, logits=eta),
            "dist.Binomial(trials, logits=eta)",
        ),
        **_COUNTS,
    ),
    dict(
        name="poisson",
        links=POSITIVE,
        parameters={},
        make=lambda mu: dist.Poisson(mu),
        text="dist.Poisson(mu)",
        **_COUNTS,
    ),
    dict(
        name="negative_binomial",
        links=POSITIVE,
        parameters={"concentration": CONCENTRATION},
        make=lambda mu, concentration: dist.NegativeBinomial2(mu, concentration),
        text=_NB,
        **_COUNTS,
    ),
    dict(
        name="zero_inflated_poisson",
        links=POSITIVE,
        parameters={"zi": INFLATION},
        make=lambda mu, zi: _inflated(dist.Poisson(mu), zi),
        text="dist.ZeroInflatedDistribution(dist.Poisson(mu), gate=zi)",
        **_COUNTS,
    ),
    dict(
        name="zero_inflated_negative_binomial",
        links=POSITIVE,
        parameters={"concentration": CONCENTRATION, "zi": INFLATION},
        make=lambda mu, concentration, zi: _inflated(dist.NegativeBinomial2(mu, concentration), zi),
        text=f"dist.ZeroInflatedDistribution({_NB}, gate=zi)",
        **_COUNTS,
    ),
    dict(
        name="ordered",
        kind="class",
        links=("logit",),
        parameters={},
        make=lambda mu, thresholds: dist.OrderedLogistic(mu, thresholds),
        text="dist.OrderedLogistic(mu, thresholds)",
    ),
    dict(
        name="categorical",
        kind="class",
        links=("logit",),
        parameters={},
        make=lambda mu: dist.Categorical(logits=mu),
        text="dist.Categorical(logits=mu)",
    ),
]
FAMILIES: Mapping[str, Family] = {one["name"]: Family(**one) for one in _ANY}
OTHER_NAMES = {"gaussian": "normal", "cumulative": "ordered"}
# likelihoods of tables, with the parameters that their settings are
KNOWN: Mapping[type, tuple[str, Mapping[str, str]]] = {
    likelihoods.Normal: ("normal", {"scale": "sigma"}),
    likelihoods.StudentT: ("student_t", {"scale": "sigma", "df": "df"}),
    likelihoods.Bernoulli: ("bernoulli", {}),
    likelihoods.Categorical: ("categorical", {}),
    likelihoods.Poisson: ("poisson", {}),
    likelihoods.NegativeBinomial: ("negative_binomial", {"concentration": "concentration"}),
}


def family_of(given: object) -> tuple[Family, dict[str, Any]]:
    """Return a likelihood by its name or by a spec such as `bdl.Normal()`, and the priors it sets.

    Raises:
        ModelError: listing the names.
    """
    name = OTHER_NAMES.get(given, given) if isinstance(given, str) else ""
    if name in FAMILIES:
        return FAMILIES[name], {}
    if type(given) in KNOWN:
        name, settings = KNOWN[type(given)]
        priors = {ours: getattr(given, theirs) for theirs, ours in settings.items()}
        if not any(isinstance(prior, str | tuple) for prior in priors.values()):
            return FAMILIES[name], {k: prior for k, prior in priors.items() if prior is not None}
        raise ModelError(
            f"Formula(likelihood={given!r}): a scale that depends on the row is a formula of its "
            "own, as in bdl.Formula('y ~ x', 'sigma ~ x')."
        )
    raise ModelError(
        f"Formula(likelihood={given!r}): expected one of {', '.join(map(repr, FAMILIES))}, or "
        "a likelihood such as bdl.Normal() or bdl.Poisson()."
    )
