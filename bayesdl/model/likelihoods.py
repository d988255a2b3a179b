"""Likelihoods p(y | f): how targets y scatter around the outputs f of a network or a process.

Each class says which targets it takes (`kind`), how many outputs it needs, which parameters of its
own it draws, and the distribution of y. Scales are in units of the standardised target unless
said otherwise.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from bayesdl.data.validation import ModelError
from bayesdl.model.language import Language, LanguageDistribution, Tensor
from bayesdl.typing import TargetKind
from inference.settings import AbstractSettings, is_positive

Parameters: TypeAlias = Any
"""Parameters of a likelihood as its method `parameters` gives them: one array, some, or None."""


class AbstractLikelihood(AbstractSettings, abc.ABC):
    """A family of distributions p(y | f).

    Attributes:
        kind: the kind of targets: "real", "count" or "class". Only real targets are standardised.
        two_classes: whether the targets have exactly two classes.
        positives: names of the fields that may hold positive numbers, which JAX may trace.
    """

    kind: ClassVar[TargetKind]
    two_classes: ClassVar[bool] = False
    positives: ClassVar[tuple[str, ...]] = ()

    def num_outputs(self, num_targets: int) -> int:
        """Return how many network outputs `num_targets` target columns (or classes) need."""
        return num_targets

    @abc.abstractmethod
    def parameters(self, num_targets: int, lang: Language) -> Tensor | tuple | None:
        """Draw the likelihood's own parameters as sites."""

    @abc.abstractmethod
    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        """Return the distribution of y given outputs f, shape (rows, num_outputs).

        Args:
            f: the outputs of the network.
            parameters: the likelihood's own parameters, as the method `parameters` drew them.
            lang: the modelling language.
        """

    def in_units(self, unit: Sequence[float] | np.ndarray) -> AbstractLikelihood:
        """Return the same likelihood for targets divided by their units, one per column."""
        return self


def _squeeze_single_target(values: Tensor) -> Tensor:
    """Drop the last axis where there is one target, so that y has shape (rows,)."""
    return values[..., 0] if values.shape[-1] == 1 else values


def _as_row_event(distribution: LanguageDistribution, f: Tensor) -> LanguageDistribution:
    """Make the targets of a row one event; rows stay independent."""
    return distribution if f.shape[-1] == 1 else distribution.to_event(1)


def _sample_positive(
    name: str, value: Any, num_targets: int, lang: Language, default: LanguageDistribution
) -> Tensor:
    """Return a positive parameter: a number as it is, otherwise a site with a prior.

    Args:
        name: the name of the site.
        value: a number, a tuple of one number per target, a NumPyro distribution, or None for the
            default prior.
        num_targets: the number of target columns.
        lang: the modelling language.
        default: the default prior, a distribution of the language.
    """
    if isinstance(value, int | float | jax.Array):
        return cast(Tensor, value)
    if isinstance(value, tuple):
        if num_targets == 1:
            return value[0]
        return cast(Tensor, (jnp if isinstance(value[0], jax.Array) else np).asarray(value))
    prior = default if value is None else lang.dist_from(value)
    return lang.sample(name, prior.expand((num_targets,)).to_event(1) if num_targets > 1 else prior)


def _check_scale(
    likelihood: AbstractLikelihood, name: str, words: tuple[str, ...] = (), per_target: bool = False
) -> None:
    """Refuse a setting that is not a positive number, a prior, None or one of the words.

    Args:
        likelihood: the likelihood with the setting.
        name: the name of the setting.
        words: words that the setting may be.
        per_target: whether it may also be a tuple with one number per target.

    Raises:
        ValueError: saying what is allowed.
    """
    value = getattr(likelihood, name)
    if (
        value is None
        or isinstance(value, Distribution)
        or (isinstance(value, str) and value in words)
    ):
        return
    entries = value if per_target and isinstance(value, tuple) and value else (value,)
    if not all(map(is_positive, entries)):
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


def _divide_scale(scale: object, unit: Sequence[float] | np.ndarray) -> object:
    """Divide a fixed scale by the unit of each target; a prior, None or a word stays as it is.

    Raises:
        ModelError: for a tuple that does not have one entry per target.
    """
    if not isinstance(scale, int | float | tuple):
        return scale
    scales: tuple[float, ...] = scale if isinstance(scale, tuple) else (scale,) * len(unit)
    if len(scales) != len(unit):
        raise ModelError(
            f"scale={scale} gives {len(scales)} scales and the number of target columns is "
            f"{len(unit)}: give one scale per target."
        )
    divided = tuple(s / u for s, u in zip(scales, unit, strict=True))
    return divided[0] if len(divided) == 1 else divided


@dataclasses.dataclass(frozen=True)
class Normal(AbstractLikelihood):
    """y ~ N(f, sigma^2).

    Args:
        scale: sigma. A number fixes it, in the units of y, and a tuple gives one number per
            target. None (the default) learns it with the prior HalfNormal(1), in units of the
            standardised target. A NumPyro distribution is its prior, in the same units.
            "heteroscedastic" lets a second output g of the network give
            sigma(x) = softplus(g) for each row.

    Example:
        >>> Normal(scale="heteroscedastic").num_outputs(1)
        2
    """

    scale: Any = None
    kind: ClassVar[TargetKind] = "real"
    positives: ClassVar[tuple[str, ...]] = ("scale",)

    def __post_init__(self) -> None:
        _check_scale(self, "scale", ("heteroscedastic",), per_target=True)

    def num_outputs(self, num_targets: int) -> int:
        return 2 * num_targets if self.scale == "heteroscedastic" else num_targets

    def parameters(self, num_targets: int, lang: Language) -> Tensor | None:
        if self.scale == "heteroscedastic":
            return None
        return _sample_positive("sigma", self.scale, num_targets, lang, lang.dist.HalfNormal(1.0))

    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        if self.scale == "heteroscedastic":
            half = f.shape[-1] // 2
            f, sigma = f[..., :half], lang.softplus(_squeeze_single_target(f[..., half:])) + 1e-4
        else:
            sigma = parameters
        return _as_row_event(lang.dist.Normal(_squeeze_single_target(f), sigma), f)

    def in_units(self, unit: Sequence[float] | np.ndarray) -> Normal:
        return dataclasses.replace(self, scale=_divide_scale(self.scale, unit))

    @property
    def fixed_scale(self) -> float | None:
        """Return sigma where it is one fixed number, otherwise None."""
        return self.scale if isinstance(self.scale, int | float) else None


@dataclasses.dataclass(frozen=True)
class StudentT(AbstractLikelihood):
    """y ~ t_df(f, scale): robust against outliers.

    Args:
        df: the degrees of freedom; None (the default) learns them with the prior
            2 + Gamma(2, 0.1), so that mean and variance of y exist.
        scale: the scale, as for `Normal` but without "heteroscedastic".

    Example:
        >>> StudentT(df=4.0).kind
        'real'
    """

    df: Any = None
    scale: Any = None
    kind: ClassVar[TargetKind] = "real"

    def __post_init__(self) -> None:
        _check_scale(self, "df")
        _check_scale(self, "scale", per_target=True)

    def parameters(self, num_targets: int, lang: Language) -> tuple[Tensor, Tensor]:
        df = _sample_positive("df", self.df, 1, lang, lang.shift(lang.dist.Gamma(2.0, 0.1), 2.0))
        return df, _sample_positive(
            "sigma", self.scale, num_targets, lang, lang.dist.HalfNormal(1.0)
        )

    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        df, sigma = parameters
        return _as_row_event(lang.dist.StudentT(df, _squeeze_single_target(f), sigma), f)

    def in_units(self, unit: Sequence[float] | np.ndarray) -> StudentT:
        return dataclasses.replace(self, scale=_divide_scale(self.scale, unit))


@dataclasses.dataclass(frozen=True)
class Bernoulli(AbstractLikelihood):
    """y ~ Bernoulli(sigmoid(f)): two classes.

    Example:
        >>> Bernoulli().kind
        'class'
    """

    kind: ClassVar[TargetKind] = "class"
    two_classes: ClassVar[bool] = True

    def num_outputs(self, num_targets: int) -> int:
        return 1

    def parameters(self, num_targets: int, lang: Language) -> Tensor | None:
        return None

    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        return lang.dist.Bernoulli(logits=_squeeze_single_target(f))


@dataclasses.dataclass(frozen=True)
class Categorical(AbstractLikelihood):
    """y ~ Categorical(softmax(f)): two or more classes, one output each.

    Example:
        >>> Categorical().num_outputs(3)
        3
    """

    kind: ClassVar[TargetKind] = "class"

    def parameters(self, num_targets: int, lang: Language) -> Tensor | None:
        return None

    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        return lang.dist.Categorical(logits=f)


@dataclasses.dataclass(frozen=True)
class Poisson(AbstractLikelihood):
    """y ~ Poisson(exp(f)): counts whose variance is their mean.

    Example:
        >>> Poisson().kind
        'count'
    """

    kind: ClassVar[TargetKind] = "count"

    def parameters(self, num_targets: int, lang: Language) -> Tensor | None:
        return None

    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        return _as_row_event(lang.dist.Poisson(lang.exp(_squeeze_single_target(f))), f)


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(AbstractLikelihood):
    """y ~ NB(mean = exp(f), concentration r): counts with variance mean + mean^2 / r.

    Args:
        concentration: the concentration r; None (the default) learns it with the prior
            Gamma(2, 0.1).

    Example:
        >>> NegativeBinomial(concentration=5.0).kind
        'count'
    """

    concentration: Any = None
    kind: ClassVar[TargetKind] = "count"

    def __post_init__(self) -> None:
        _check_scale(self, "concentration")

    def parameters(self, num_targets: int, lang: Language) -> Tensor | None:
        prior = lang.dist.Gamma(2.0, 0.1)
        return _sample_positive("concentration", self.concentration, num_targets, lang, prior)

    def distribution(
        self, f: Tensor, parameters: Parameters, lang: Language
    ) -> LanguageDistribution:
        logits = _squeeze_single_target(f) - lang.log(parameters)
        return _as_row_event(lang.negative_binomial(parameters, logits), f)


WORDS: dict[str, type[AbstractLikelihood]] = {
    "normal": Normal,
    "student_t": StudentT,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
"""The words that stand for likelihoods with their default settings."""


def as_likelihood(value: object) -> AbstractLikelihood:
    """Return a likelihood as it is, and that of a word, whatever its case and hyphens.

    Raises:
        ModelError: for anything else, listing the words.

    Example:
        >>> as_likelihood("negative binomial")
        NegativeBinomial(concentration=None)
    """
    if isinstance(value, AbstractLikelihood):
        return value
    if isinstance(value, str):
        letters = "".join(filter(str.isalpha, value)).lower()
        for word, cls in WORDS.items():
            if word.replace("_", "") == letters:
                return cls()
    raise ModelError(
        f"likelihood={value!r}: expected a likelihood such as bdl.Bernoulli(), or one of the words "
        f"{', '.join(map(repr, WORDS))}."
    )
