"""Likelihoods p(y | f): how targets y scatter around the outputs f of a network or a process.

Each class says what targets it takes (`kind`), how many outputs it needs, which parameters of its own it draws, and
the law of y. Scales are in units of the standardised target unless said otherwise.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from bayesdl.data.validation import ModelError
from bayesdl.model.language import Language


class AbstractLikelihood(abc.ABC):
    """A family of laws p(y | f).

    Attributes:
        kind: "real", "count" or "class": the targets it takes. Only real targets are standardised.
        two_classes: whether targets have two classes, no more.
        positives: names of the fields that may hold positive numbers, and these be traced.
    """

    kind: ClassVar[str]
    two_classes: ClassVar[bool] = False
    positives: ClassVar[tuple[str, ...]] = ()

    def num_outputs(self, num_targets: int) -> int:
        """How many network outputs `num_targets` target columns (or classes) need."""
        return num_targets

    @abc.abstractmethod
    def parameters(self, num_targets: int, lang: Language) -> Any:
        """Draws the likelihood's own parameters as sites."""

    @abc.abstractmethod
    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        """The law of y given outputs f, shape (rows, num_outputs)."""

    def in_units(self, unit: Any) -> AbstractLikelihood:
        """The same likelihood for a target divided by `unit`."""
        return self


def squeeze_single_target(values: Any) -> Any:
    """Drops the last axis where there is one target, so that y has shape (rows,)."""
    return values[..., 0] if values.shape[-1] == 1 else values


def as_row_event(law: Any, f: Any) -> Any:
    """Rows are independent, the targets of a row are one event."""
    return law if f.shape[-1] == 1 else law.to_event(1)


def sample_positive(name: str, value: Any, num_targets: int, lang: Language, default: Any) -> Any:
    """A positive parameter: a number as it is, otherwise a site with the given or the default prior."""
    if isinstance(value, int | float | jax.Array):
        return value
    if isinstance(value, tuple):  # a number per target
        return (
            (jnp if isinstance(value[0], jax.Array) else np).asarray(value)
            if num_targets > 1
            else value[0]
        )
    law = default if value is None else lang.dist_from(value)
    return lang.sample(name, law.expand((num_targets,)).to_event(1) if num_targets > 1 else law)


def check_scale(
    likelihood: AbstractLikelihood, name: str, words: tuple[str, ...] = (), per_target: bool = False
) -> None:
    """Refuses a setting that is not a positive number, a prior, None or one of the words; a tuple only `per_target`."""
    value = getattr(likelihood, name)
    if (
        value is None
        or isinstance(value, Distribution)
        or (isinstance(value, str) and value in words)
    ):
        return
    entries = value if per_target and isinstance(value, tuple) and value else (value,)
    if not all(isinstance(entry, int | float) and 0 < entry < math.inf for entry in entries):
        tuples = ["a tuple of positive numbers, one per target"] if per_target else []
        allowed = [
            "a positive number",
            *tuples,
            "a NumPyro distribution",
            "None (learned)",
            *map(repr, words),
        ]
        raise ValueError(
            f"{type(likelihood).__name__}({name}={value!r}): expected {', '.join(allowed)}."
        )


def divide_scale(scale: Any, unit: Any) -> Any:
    """A fixed scale over the unit of each target; a prior, None or a word as it is.

    Raises:
        ModelError: for a tuple that has not one entry per target.
    """
    if not isinstance(scale, int | float | tuple):
        return scale
    scales: tuple[float, ...] = scale if isinstance(scale, tuple) else (scale,) * len(unit)
    if len(scales) != len(unit):
        raise ModelError(
            f"scale={scale} gives {len(scales)} scales and the number of target columns is {len(unit)}: "
            "give one scale per target."
        )
    divided = tuple(s / u for s, u in zip(scales, unit, strict=True))
    return divided[0] if len(divided) == 1 else divided


@dataclasses.dataclass(frozen=True)
class Normal(AbstractLikelihood):
    """y ~ N(f, sigma^2).

    Args:
        scale: a number fixes sigma, in the units of y, and a tuple gives one such number per target; None learns it
            with prior HalfNormal(1) in units of the standardised target; a NumPyro distribution is its prior, in the same
            units; "heteroscedastic" lets a second output g of the network give sigma(x) = softplus(g) per row.

    Example:
        >>> Normal(scale="heteroscedastic").num_outputs(1)
        2
    """

    scale: Any = None
    kind: ClassVar[str] = "real"
    positives: ClassVar[tuple[str, ...]] = ("scale",)

    def __post_init__(self) -> None:
        check_scale(self, "scale", ("heteroscedastic",), per_target=True)

    def num_outputs(self, num_targets: int) -> int:
        return 2 * num_targets if self.scale == "heteroscedastic" else num_targets

    def parameters(self, num_targets: int, lang: Language) -> Any:
        if self.scale == "heteroscedastic":
            return None
        return sample_positive("sigma", self.scale, num_targets, lang, lang.dist.HalfNormal(1.0))

    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        if self.scale == "heteroscedastic":
            half = f.shape[-1] // 2
            f, sigma = f[..., :half], lang.softplus(squeeze_single_target(f[..., half:])) + 1e-4
        else:
            sigma = parameters
        return as_row_event(lang.dist.Normal(squeeze_single_target(f), sigma), f)

    def in_units(self, unit: Any) -> Normal:
        return dataclasses.replace(self, scale=divide_scale(self.scale, unit))

    @property
    def fixed_scale(self) -> float | None:
        """Sigma where it is one fixed number, otherwise None."""
        return self.scale if isinstance(self.scale, int | float) else None


@dataclasses.dataclass(frozen=True)
class StudentT(AbstractLikelihood):
    """y ~ t_df(f, scale): robust against outliers.

    Args:
        df: degrees of freedom; None learns them with prior 2 + Gamma(2, 0.1), so that mean and variance of y exist.
        scale: as for `Normal`, without "heteroscedastic".

    Example:
        >>> StudentT(df=4.0).kind
        'real'
    """

    df: Any = None
    scale: Any = None
    kind: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        check_scale(self, "df")
        check_scale(self, "scale", per_target=True)

    def parameters(self, num_targets: int, lang: Language) -> Any:
        df = sample_positive("df", self.df, 1, lang, lang.shift(lang.dist.Gamma(2.0, 0.1), 2.0))
        return df, sample_positive(
            "sigma", self.scale, num_targets, lang, lang.dist.HalfNormal(1.0)
        )

    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        df, sigma = parameters
        return as_row_event(lang.dist.StudentT(df, squeeze_single_target(f), sigma), f)

    def in_units(self, unit: Any) -> StudentT:
        return dataclasses.replace(self, scale=divide_scale(self.scale, unit))


@dataclasses.dataclass(frozen=True)
class Bernoulli(AbstractLikelihood):
    """y ~ Bernoulli(sigmoid(f)): two classes.

    Example:
        >>> Bernoulli().kind
        'class'
    """

    kind: ClassVar[str] = "class"
    two_classes: ClassVar[bool] = True

    def num_outputs(self, num_targets: int) -> int:
        return 1

    def parameters(self, num_targets: int, lang: Language) -> Any:
        return None

    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        return lang.dist.Bernoulli(logits=squeeze_single_target(f))


@dataclasses.dataclass(frozen=True)
class Categorical(AbstractLikelihood):
    """y ~ Categorical(softmax(f)): two or more classes, one output each.

    Example:
        >>> Categorical().num_outputs(3)
        3
    """

    kind: ClassVar[str] = "class"

    def parameters(self, num_targets: int, lang: Language) -> Any:
        return None

    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        return lang.dist.Categorical(logits=f)


@dataclasses.dataclass(frozen=True)
class Poisson(AbstractLikelihood):
    """y ~ Poisson(exp(f)): counts whose variance is their mean.

    Example:
        >>> Poisson().kind
        'count'
    """

    kind: ClassVar[str] = "count"

    def parameters(self, num_targets: int, lang: Language) -> Any:
        return None

    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        return as_row_event(lang.dist.Poisson(lang.exp(squeeze_single_target(f))), f)


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(AbstractLikelihood):
    """y ~ NB(mean = exp(f), concentration r): counts with variance mean + mean^2 / r.

    Args:
        concentration: r; None learns it with prior Gamma(2, 0.1).

    Example:
        >>> NegativeBinomial(concentration=5.0).kind
        'count'
    """

    concentration: Any = None
    kind: ClassVar[str] = "count"

    def __post_init__(self) -> None:
        check_scale(self, "concentration")

    def parameters(self, num_targets: int, lang: Language) -> Any:
        law = lang.dist.Gamma(2.0, 0.1)
        return sample_positive("concentration", self.concentration, num_targets, lang, law)

    def distribution(self, f: Any, parameters: Any, lang: Language) -> Any:
        logits = squeeze_single_target(f) - lang.log(parameters)
        return as_row_event(lang.negative_binomial(parameters, logits), f)
