"""Priors as plain data, which files hold, programs compare by, and a printed program shows.

Sites of a formula are in the units of the data: a slope may be 10 ms a day, a scale 1e-6. Samplers
and optimisers work on unconstrained values u, start near zero and take steps of about one. Here

    z = centre + unit * u  for real z,    z = unit * exp(u)  for positive z,

and the density of z is that of the distribution inside, so that the posterior is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, biject_to, constraints, transforms
from numpyro.distributions.constraints import Constraint

from bayesdl.data.validation import ModelError, did_you_mean
from bayesdl.model.registry import register_spec

Numbers: TypeAlias = ArrayLike | list[float] | None
"""A parameter of a prior."""


class _Scaled(Constraint):
    """The support of the distribution inside, with a unit and a centre.

    Args:
        base: the support.
        unit: what one unconstrained unit is.
        centre: the value at zero.
    """

    def __init__(self, base: Any, unit: float, centre: float) -> None:
        self.base, self.unit, self.centre = base, unit, centre

    @property
    def event_dim(self) -> int:
        """The number of dimensions of one value."""
        return self.base.event_dim

    @property
    def is_discrete(self) -> bool:
        """Whether values are discrete: never."""
        return False

    def __call__(self, x: ArrayLike) -> Any:
        return self.base(x)

    def feasible_like(self, prototype: ArrayLike) -> Any:
        """Return a value of the support with the shape of another."""
        return self.base.feasible_like(prototype)

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Return the parts, none of which is an array."""
        return (), ((), {"base": self.base, "unit": self.unit, "centre": self.centre})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Scaled):
            return False
        return (self.base, self.unit, self.centre) == (other.base, other.unit, other.centre)

    def __hash__(self) -> int:
        return hash((_Scaled, self.unit, self.centre))


@biject_to.register(_Scaled)
def _from_real(constraint: _Scaled) -> Any:
    scale = transforms.AffineTransform(constraint.centre, constraint.unit)
    if constraint.centre == 0.0 and constraint.unit == 1.0:
        return biject_to(constraint.base)
    inner: Any = biject_to(constraint.base)
    if isinstance(inner, transforms.IdentityTransform):
        return scale
    return transforms.ComposeTransform([inner, scale])


class InUnits(Distribution):
    """A distribution over real or positive numbers whose unconstrained values are of size one.

    Args:
        base_dist: the distribution.
        unit: what one unconstrained unit is.
        centre: the value at zero, for real numbers.
    """

    arg_constraints: ClassVar[dict] = {}
    pytree_data_fields = ("base_dist",)
    pytree_aux_fields = ("unit", "centre")

    def __init__(
        self,
        base_dist: Distribution,
        unit: float,
        centre: float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.base_dist, self.unit, self.centre = base_dist, unit, centre
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=validate_args)

    @classmethod
    def around(cls, inside: Distribution, unit: float, centre: float) -> Distribution:
        """Return a distribution in these units, where its support is that of a unit."""
        support: Any = inside.support
        base = getattr(support, "base_constraint", support)
        if base is constraints.real:
            return cls(inside, unit, centre)
        if base in (constraints.positive, constraints.nonnegative):
            return cls(inside, unit, 0.0)
        return inside

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the distribution inside."""
        return _Scaled(self.base_dist.support, self.unit, self.centre)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw from the distribution inside."""
        return self.base_dist.sample(key, sample_shape)

    def log_prob(self, value: ArrayLike) -> Any:
        """Return the log density of the distribution inside."""
        return self.base_dist.log_prob(value)

    @property
    def mean(self) -> Any:
        """The mean of the distribution inside."""
        return self.base_dist.mean

    @property
    def variance(self) -> Any:
        """The variance of the distribution inside."""
        return self.base_dist.variance


class _Range(NamedTuple):
    """What values a site has.

    Attributes:
        words: the same in words.
        example: a distribution over them.
        low: the end that values are above.
        high: the end that they are below.
    """

    words: str
    example: str
    low: float = -np.inf
    high: float = np.inf

    def holds(self, value: float) -> bool:
        """Return whether a value is one of the site."""
        return self.low < value < self.high

    def takes(self, given: Distribution, shape: tuple[int, ...]) -> bool:
        """Return whether a distribution is over such values, for a site of a shape or for each."""
        support: Any = given.support
        holds = _holds(given)
        outside = [value for value in PROBES if not self.low <= value <= self.high]
        fits = given.batch_shape in ((), shape) and not given.event_shape
        return fits and not support.is_discrete and not any(map(holds, outside))


# where the support of a prior is looked at
PROBES = (-1e6, -2.0, -1.0, -0.5, -0.1, -1e-3, -1e-9, 1 + 1e-9, 1.001, 1.1, 1.5, 2.0, 3.0, 1e6)
_RANGES = {
    (True, True): _Range("real numbers", "dist.Normal(0.0, 1.0)"),
    (False, True): _Range("positive numbers", "dist.HalfNormal(1.0)", 0.0),
    (False, False): _Range("numbers between 0 and 1", "dist.Beta(1.0, 1.0)", 0.0, 1.0),
}


def _holds(distribution: Distribution) -> Callable[[float], bool]:
    """Return a function that says whether a value is in the support."""
    support: Any = distribution.support
    return lambda value: bool(np.any(np.asarray(support(np.asarray(value)))))


def _called(distribution: object) -> str:
    """Return a distribution by its class and parameters."""
    names = getattr(distribution, "arg_constraints", {})
    inside = ", ".join(f"{name}={np.asarray(getattr(distribution, name))}" for name in names)
    return f"{type(distribution).__name__}({inside})"


@register_spec("formula.Prior")
@dataclasses.dataclass(frozen=True)
class Prior:
    """A distribution of NumPyro by its name and parameters; or a fixed number.

    Attributes:
        name: the name of the distribution; empty for a fixed number.
        parameters: its parameters by name; numbers, or tuples with one for each entry.
        unit: about how large values are, which is what samplers and optimisers take for one.
        centre: about where values are.
    """

    name: str
    parameters: tuple[tuple[str, Any], ...]
    unit: float = 1.0
    centre: float = 0.0

    @classmethod
    def of(cls, name: str, unit: float = 1.0, centre: float = 0.0, **parameters: Numbers) -> Prior:
        """Return the prior with parameters as plain numbers."""
        plain = tuple((key, _plain(value)) for key, value in parameters.items())
        return cls(name, plain, float(unit), float(centre))

    @classmethod
    def read(cls, site: str, given: object, default: Prior) -> Prior:
        """Return what a user gave for a site, with the units of the default.

        Raises:
            ModelError: for anything but a distribution with constant parameters, or a number; and
                for values that the site cannot have.
        """
        if isinstance(given, int | float) and not isinstance(given, bool) and np.isfinite(given):
            if default._range.holds(float(given)):
                return cls("", (("value", float(given)),))
            raise default._refusal(site, given)
        if isinstance(given, Distribution):
            found = {name: getattr(given, name, None) for name in given.arg_constraints}
            kind = type(given).__name__
            try:
                prior = cls.of(kind, default.unit, default.centre, **found)
                rebuilt = prior.plain_distribution()
            # a constructor may refuse arguments that are not its own in any way
            except Exception:
                rebuilt = None
            if rebuilt is not None and rebuilt.event_shape == given.event_shape:
                shape = default.plain_distribution().batch_shape
                if default._range.takes(rebuilt, shape):
                    return prior
                raise default._refusal(site, given)
        raise ModelError(
            f"priors[{site!r}]={given!r:.80}: expected a NumPyro distribution that its parameters "
            "alone make, such as dist.Normal(0.0, 2.0), or a number that fixes it."
        )

    @property
    def _range(self) -> _Range:
        """What values the site has of which this is the default prior."""
        holds = _holds(self.plain_distribution())
        # a shape may be 1 also where it is above 2 by default
        return _RANGES[(holds(-1.0), holds(3.0))]

    def _refusal(self, site: str, given: object) -> ModelError:
        """Return the error for a prior of values that the site cannot have."""
        text = given if isinstance(given, int | float) else _called(given)
        shape = self.plain_distribution().batch_shape
        some = f", one or {shape[0]} of them" if shape else ", one of them"
        return ModelError(
            f"priors[{site!r}]={text}: expected {self._range.words}{some}, such as "
            f"{self._range.example}."
        )

    @property
    def fixed(self) -> float | None:
        """The number to which the site is fixed, or None."""
        return None if self.name else float(dict(self.parameters)["value"])

    def plain_distribution(self) -> Distribution:
        """Return the distribution, as the printed program has it."""
        arrays = {
            name: np.asarray(value, np.float64) if isinstance(value, tuple) else value
            for name, value in self.parameters
        }
        return getattr(dist, self.name)(**arrays)

    def distribution(self, shape: tuple[int, ...] = ()) -> Distribution:
        """Return the distribution of a site of this shape, in units that suit samplers."""
        made = self.plain_distribution()
        made = made.expand(shape).to_event(len(shape)) if shape else made
        return InUnits.around(made, self.unit, self.centre)

    def text(self, shape: tuple[int, ...] = ()) -> str:
        """Return the distribution as Python."""
        inside = ", ".join(_python(value) for _, value in self.parameters)
        made = f"dist.{self.name}({inside})"
        return f"{made}.expand({list(shape)}).to_event({len(shape)})" if shape else made

    def describe(self) -> str:
        """Return the prior for a table."""
        if self.fixed is not None:
            return f"fixed at {self.fixed:g}"
        inside = ", ".join(_short(value) for _, value in self.parameters)
        return f"{self.name}({inside})"


class Choice:
    """The user's priors, taken by the sites that have them.

    Args:
        given: the priors by site.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = dict(given)
        self.sites: dict[str, None] = {}

    def take(self, site: str, default: Prior, *others: str) -> Prior:
        """Return the prior of a site: the user's, also under another name, or the default."""
        for name in (site, *others):
            self.sites[name] = None
            if name in self.given:
                return Prior.read(name, self.given[name], default)
        return default

    def check(self, sites: Iterable[str] = ()) -> None:
        """Refuse priors of sites that there are not.

        Raises:
            ModelError: with the nearest name.
        """
        known = [*self.sites, *sites]
        for name in self.given:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ModelError(
                    f"priors: the formula has no {name!r}: {hint}Priors can be given for {known}."
                )


def _plain(value: Numbers) -> Any:
    """Return a parameter as a number, or as a tuple of numbers.

    Raises:
        ValueError: for arrays of more dimensions.
    """
    array = np.asarray(value, np.float64)
    if array.ndim > 1 or not np.isfinite(array).all():
        raise ValueError
    return array.item() if array.ndim == 0 else tuple(array.tolist())


def _python(value: object) -> str:
    """Return a parameter as Python."""
    if isinstance(value, tuple):
        return f"jnp.array({list(value)})"
    return repr(value)


def _short(value: float | tuple) -> str:
    """Return a parameter in few digits."""
    if isinstance(value, tuple):
        return f"[{', '.join(f'{entry:.4g}' for entry in value)}]"
    return f"{value:.4g}"
