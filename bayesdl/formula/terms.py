"""Terms of a linear predictor: each knows its columns, its sites, its effect, and its own text.

A program's input X holds the columns of all terms side by side. A term says which are its own
(`at`, `width`), draws its sites (`sample`), adds to the predictor (`effect`), and writes the same
as lines of a program that stands alone (`lines`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesdl.formula.priors import Prior
from bayesdl.model.registry import register_spec

Drawn: TypeAlias = Mapping[str, jax.Array]
"""What a term drew, by names of its own."""


class Lines(NamedTuple):
    """A term as lines of a program.

    Attributes:
        sites: the lines that draw its sites.
        effect: the expression that is added to the predictor.
        arguments: the names of its arrays.
    """

    sites: list[str]
    effect: str
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class AbstractTerm(abc.ABC):
    """A term of a linear predictor.

    Attributes:
        at: the first of its columns in X.
        width: the number of its columns.
        prefix: what the names of its sites begin with, for parameters other than the mean.
    """

    at: int
    width: int
    prefix: str

    @abc.abstractmethod
    def sample(self) -> Drawn:
        """Draw the sites."""

    @abc.abstractmethod
    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        """Return what the term adds to the predictor, shape (rows,).

        Args:
            drawn: what `sample` gave.
            X: the columns of the term, shape (rows, width).
            predicting: whether rows may have levels that the training data had not.
        """

    @abc.abstractmethod
    def lines(self) -> Lines:
        """Return the term as lines of a program."""

    @abc.abstractmethod
    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays that `lines` names, from the columns of the term."""

    @abc.abstractmethod
    def priors(self) -> dict[str, str]:
        """Return the priors in words, by site."""

    def at_zero(self, drawn: Drawn) -> Any:
        """Return what the predictor has more where all columns are zero than `effect` has."""
        return 0.0

    def shift_text(self) -> str:
        """Return what `at_zero` returns as Python; empty for nothing."""
        return ""

    def hidden(self) -> tuple[str, ...]:
        """Return the sites that summaries leave out, as others say the same in plain units."""
        return ()

    def names(self) -> tuple[dict[str, tuple], dict[str, tuple]]:
        """Return the labels by dimension, and the dimensions by site."""
        return {}, {}


class Coefficient(NamedTuple):
    """The coefficients of one fixed term."""

    site: str
    start: int
    stop: int
    labels: tuple
    prior: Prior


@register_spec("formula.Fixed")
@dataclasses.dataclass(frozen=True)
class Fixed(AbstractTerm):
    """Fixed terms: x' b, with an intercept that is drawn at the means of the columns.

    Attributes:
        sites: the names of the sites of coefficients.
        slices: the first and the last column of each.
        labels: the labels of the columns of each; empty for one column of numbers.
        coefficients: the priors of the coefficients.
        means: the means of the columns; zeros without an intercept.
        intercept: the prior of the intercept, or None.
    """

    sites: tuple
    slices: tuple
    labels: tuple
    coefficients: tuple
    means: tuple
    intercept: Prior | None

    @property
    def _parts(self) -> list[Coefficient]:
        parts = zip(self.sites, self.slices, self.labels, self.coefficients, strict=True)
        return [Coefficient(site, at[0], at[1], tuple(ls), prior) for site, at, ls, prior in parts]

    @property
    def _intercept_site(self) -> str:
        return f"{self.prefix}Intercept_centred" if self.width else f"{self.prefix}Intercept"

    def sample(self) -> Drawn:
        drawn = []
        for site, start, stop, labels, prior in self._parts:
            shape = (stop - start,) if labels else ()
            drawn.append(jnp.reshape(draw(site, prior, shape), (stop - start,)))
        b = jnp.concatenate(drawn) if drawn else jnp.zeros(0)
        if self.intercept is None:
            return {"b": b, "centred": jnp.zeros(())}
        centred = draw(self._intercept_site, self.intercept)
        if self.width:
            shift = jnp.asarray(self.means) @ b
            numpyro.deterministic(f"{self.prefix}Intercept", centred - shift)
        return {"b": b, "centred": centred}

    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        return (X - jnp.asarray(self.means)[None]) @ drawn["b"] + drawn["centred"]

    def at_zero(self, drawn: Drawn) -> Any:
        """Return means' b."""
        return jnp.asarray(self.means) @ drawn["b"] if self.width else 0.0

    def shift_text(self) -> str:
        """Return means' b as Python; empty where there is none."""
        shifts = [
            f"jnp.array({list(means)}) @ {variable('b_' + site)}"
            if labels
            else f"{means[0]!r} * {variable('b_' + site)}"
            for site, start, stop, labels, _ in self._parts
            if any(means := self.means[start:stop])
        ]
        return " + ".join(shifts)

    @property
    def _array(self) -> str:
        return variable(f"X_{self.prefix.rstrip('_')}") if self.prefix else "X"

    def lines(self) -> Lines:
        written, effects = [], []
        for site, start, stop, labels, prior in self._parts:
            name = variable("b_" + site)
            written.append(f"{name} = {site_text(site, prior, (stop - start,) if labels else ())}")
            at = f"{start}:{stop}] @" if labels else f"{start}] *"
            effects.append(f"{self._array}[:, {at} {name}")
        shift, effect = self.shift_text(), " + ".join(effects)
        arrays = (self._array,) if self.width else ()
        if self.intercept is None:
            return Lines(written, f"{effect} - ({shift})" if shift else effect or "0.0", arrays)
        name, centred = variable(f"{self.prefix}Intercept"), variable(self._intercept_site)
        written.append(f"{centred} = {site_text(self._intercept_site, self.intercept)}")
        if self.width:
            site = f"{self.prefix}Intercept"
            inside = f"{centred} - ({shift or 0.0})"
            written.append(f"{name} = numpyro.deterministic({site!r}, {inside})")
        return Lines(written, f"{name} + {effect}" if effect else name, arrays)

    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        return {self._array: X} if self.width else {}

    def priors(self) -> dict[str, str]:
        found = {site: prior.describe() for site, _, _, _, prior in self._parts}
        if self.intercept is None:
            return found
        what = self.intercept.describe() + (", at the means of the columns" if self.width else "")
        return {f"{self.prefix}Intercept": what} | found

    def hidden(self) -> tuple[str, ...]:
        return (self._intercept_site,) if self.width and self.intercept is not None else ()

    def names(self) -> tuple[dict[str, tuple], dict[str, tuple]]:
        several = [part for part in self._parts if part.labels]
        coords = {f"{part.site}_level": part.labels for part in several}
        return coords, {part.site: (f"{part.site}_level",) for part in several}


@register_spec("formula.Monotone")
@dataclasses.dataclass(frozen=True)
class Monotone(AbstractTerm):
    """A monotone effect of an ordered factor: b D (s_1 + ... + s_k) at its level k = 0..D.

    The simplex s ~ Dirichlet(1) divides the whole effect among the steps, and b is the mean step
    (Buerkner and Charpentier 2020).

    Attributes:
        site: the name of the term, and of b.
        levels: the levels in their order.
        slope: the prior of b.
    """

    site: str
    levels: tuple
    slope: Prior

    def sample(self) -> Drawn:
        b, steps = draw(self.site, self.slope), len(self.levels) - 1
        s: Any = numpyro.sample(f"simplex_{self.site}", dist.Dirichlet(jnp.ones(steps)))
        return {"levels": b * steps * jnp.concatenate([jnp.zeros(1), jnp.cumsum(s)])}

    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        return drawn["levels"][X[:, 0].astype(int)]

    def lines(self) -> Lines:
        b, s, steps = variable("b_" + self.site), variable("s_" + self.site), len(self.levels) - 1
        index, simplex = variable("index_" + self.site), f"simplex_{self.site}"
        written = [
            f"{b} = {site_text(self.site, self.slope)}",
            f"{s} = numpyro.sample({simplex!r}, dist.Dirichlet(jnp.ones({steps})))",
            f"{s} = jnp.concatenate([jnp.zeros(1), jnp.cumsum({s})])",
        ]
        return Lines(written, f"{steps} * {b} * {s}[{index}]", (index,))

    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        return {variable("index_" + self.site): X[:, 0].astype(int)}

    def priors(self) -> dict[str, str]:
        return {self.site: self.slope.describe(), f"simplex_{self.site}": "Dirichlet(1)"}

    def names(self) -> tuple[dict[str, tuple], dict[str, tuple]]:
        steps = tuple(f"{a} to {b}" for a, b in zip(self.levels[:-1], self.levels[1:], strict=True))
        dim = f"{self.site}_step"
        return {dim: steps}, {f"simplex_{self.site}": (dim,)}


@register_spec("formula.Offset")
@dataclasses.dataclass(frozen=True)
class Offset(AbstractTerm):
    """A known column that is added to the predictor.

    Attributes:
        expression: the expression of the column.
    """

    expression: str

    @property
    def _array(self) -> str:
        return variable(f"{self.prefix}offset_{self.expression}")

    def sample(self) -> Drawn:
        return {}

    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        return X[:, 0]

    def lines(self) -> Lines:
        return Lines([], self._array, (self._array,))

    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        return {self._array: X[:, 0]}

    def priors(self) -> dict[str, str]:
        return {}


def draw(site: str, prior: Prior, shape: tuple[int, ...] = ()) -> Any:
    """Draw a site from its prior, or return the number to which it is fixed."""
    if prior.fixed is not None:
        return numpyro.deterministic(site, jnp.full(shape, prior.fixed))
    return numpyro.sample(site, prior.distribution(shape))


def site_text(site: str, prior: Prior, shape: tuple[int, ...] = ()) -> str:
    """Return the statement that draws a site."""
    if prior.fixed is not None:
        return f"numpyro.deterministic({site!r}, jnp.full({shape}, {prior.fixed!r}))"
    return f"numpyro.sample({site!r}, {prior.text(shape)})"


def variable(name: str) -> str:
    """Return a name of Python for a site."""
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    return plain if not plain[:1].isdigit() else f"_{plain}"


def merged(terms: list[AbstractTerm]) -> tuple[Mapping[str, tuple], Mapping[str, tuple]]:
    """Return the labels and the dimensions of several terms."""
    coords: dict[str, tuple] = {}
    dims: dict[str, tuple] = {}
    for term in terms:
        more, where = term.names()
        coords |= more
        dims |= where
    return coords, dims
