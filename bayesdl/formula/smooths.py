"""Smooth functions of one column: Gaussian processes, of low rank (`s`) and exact (`gp`).

With t = (x - c) / h in [-1, 1] over the training data, s(x) is the Hilbert space approximation

    f(x) = sum_j sqrt(S(w_j)) z_j phi_j(t),    phi_j(t) = sin(w_j (t + L)) / sqrt(L),
    w_j = pi j / (2 L),    S(w) = sd^2 sqrt(2 pi) l exp(-l^2 w^2 / 2),    z_j ~ N(0, 1),

of a process with a squared exponential kernel (Solin and Sarkka 2020; Riutort-Mayol et al. 2023).
Its basis has mean zero over the training rows, as the intercept has the level.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from bayesdl.formula.groups import standard_normals
from bayesdl.formula.priors import Prior
from bayesdl.formula.terms import AbstractTerm, Drawn, Lines, draw, site_text, variable
from bayesdl.model.registry import register_spec

BOUNDARY = 1.5  # L
FUNCTIONS = 20  # enough for length scales of an eighth of the range and more
# what keeps covariances positive definite, relative to the variance
JITTER = 1e-8
MOST = 500  # distinct values of an exact process


@register_spec("formula.Smooth")
@dataclasses.dataclass(frozen=True)
class Smooth(AbstractTerm):
    """A smooth function of a column, of low rank.

    Attributes:
        site: the name of the term.
        centre: c, the middle of the training data.
        half: h, half of their range.
        means: the means of the functions phi_j over the training rows.
        scale: the prior of sd.
        length: the prior of the length scale, in units of the column.
    """

    site: str
    centre: float
    half: float
    means: tuple
    scale: Prior
    length: Prior

    def sample(self) -> Drawn:
        count = len(self.means)
        sd, length = draw(f"sd_{self.site}", self.scale), draw(f"length_{self.site}", self.length)
        z: Any = numpyro.sample(f"z_{self.site}", dist.Normal(0.0, 1.0).expand([count]).to_event(1))
        frequencies = jnp.pi * jnp.arange(1, count + 1) / (2 * BOUNDARY)
        ratio = length / self.half
        root = sd * jnp.sqrt(jnp.sqrt(2 * jnp.pi) * ratio)
        return {"weights": root * jnp.exp(-((ratio * frequencies) ** 2) / 4) * z}

    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        return (
            basis((X[:, 0] - self.centre) / self.half, len(self.means)) - self._means[None]
        ) @ drawn["weights"]

    @property
    def _means(self) -> jax.Array:
        return jnp.asarray(self.means)

    def lines(self) -> Lines:
        x, sd, length, z = (variable(kind + self.site) for kind in ("x_", "sd_", "length_", "z_"))
        count, omega = len(self.means), variable("w_" + self.site)
        phi = variable("phi_" + self.site)
        normal = f"dist.Normal(0.0, 1.0).expand([{count}]).to_event(1)"
        ratio = f"({length} / {self.half!r})"
        written = [
            f"{sd} = {site_text(f'sd_{self.site}', self.scale)}",
            f"{length} = {site_text(f'length_{self.site}', self.length)}",
            f"{z} = numpyro.sample({f'z_{self.site}'!r}, {normal})",
            f"{omega} = jnp.pi * jnp.arange(1, {count + 1}) / {2 * BOUNDARY}",
            f"{phi} = ({x}[:, None] - {self.centre!r}) / {self.half!r} + {BOUNDARY}",
            f"{phi} = jnp.sin({omega} * {phi}) / jnp.sqrt({BOUNDARY})",
            f"{phi} = {phi} - jnp.array({list(self.means)})",
            f"{z} = {z} * {sd} * jnp.sqrt(jnp.sqrt(2 * jnp.pi) * {ratio})",
            f"{z} = {z} * jnp.exp(-(({ratio} * {omega}) ** 2) / 4)",
        ]
        return Lines(written, f"{phi} @ {z}", (x,))

    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        return {variable("x_" + self.site): X[:, 0]}

    def priors(self) -> dict[str, str]:
        return {
            f"sd_{self.site}": self.scale.describe(),
            f"length_{self.site}": self.length.describe(),
        }

    def hidden(self) -> tuple[str, ...]:
        return (f"z_{self.site}",)


@register_spec("formula.Process")
@dataclasses.dataclass(frozen=True)
class Process(AbstractTerm):
    """An exact Gaussian process of a column, with a squared exponential kernel.

    The columns are x and its number among the training values; numbers from their count on are of
    new values, where f is drawn given its values at the training data, each by itself.

    Attributes:
        site: the name of the term.
        values: the distinct training values, in order.
        scale: the prior of sd.
        length: the prior of the length scale, in units of the column.
    """

    site: str
    values: tuple
    scale: Prior
    length: Prior

    def sample(self) -> Drawn:
        at = jnp.asarray(self.values)
        sd, length = draw(f"sd_{self.site}", self.scale), draw(f"length_{self.site}", self.length)
        z: Any = numpyro.sample(
            f"z_{self.site}", dist.Normal(0.0, 1.0).expand([len(self.values)]).to_event(1)
        )
        factor = jnp.linalg.cholesky(_kernel(at, at, length) + JITTER * jnp.eye(len(at)))
        found = {"f": sd * (factor @ z), "sd": sd, "length": length}
        return found | {"factor": factor, "z": z}

    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        f, sd, length, factor, z = (drawn[k] for k in ("f", "sd", "length", "factor", "z"))
        number = X[:, 1].astype(int)
        if not predicting:
            return f[number]
        cross = _kernel(jnp.asarray(self.values), X[:, 0], length)
        whitened = jax.scipy.linalg.solve_triangular(factor, cross, lower=True)
        left = jnp.sqrt(jnp.maximum(1.0 - jnp.sum(whitened**2, axis=0), 0.0))
        new = sd * (whitened.T @ z + left * standard_normals(number, ()))
        return jnp.where(number < len(self.values), f[jnp.clip(number, 0, len(f) - 1)], new)

    def lines(self) -> Lines:
        index, sd, length, z, k = (
            variable(kind + self.site) for kind in ("index_", "sd_", "length_", "z_", "K_")
        )
        count, at = len(self.values), variable("at_" + self.site)
        normal = f"dist.Normal(0.0, 1.0).expand([{count}]).to_event(1)"
        written = [
            f"{at} = jnp.array({list(self.values)})",
            f"{sd} = {site_text(f'sd_{self.site}', self.scale)}",
            f"{length} = {site_text(f'length_{self.site}', self.length)}",
            f"{z} = numpyro.sample({f'z_{self.site}'!r}, {normal})",
            f"{k} = jnp.exp(-0.5 * (({at}[:, None] - {at}) / {length}) ** 2)",
            f"{k} = jnp.linalg.cholesky({k} + {JITTER} * jnp.eye({count}))",
        ]
        return Lines(written, f"({sd} * ({k} @ {z}))[{index}]", (index,))

    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        return {variable("index_" + self.site): X[:, 1].astype(int)}

    def priors(self) -> dict[str, str]:
        return {
            f"sd_{self.site}": self.scale.describe(),
            f"length_{self.site}": self.length.describe(),
        }

    def hidden(self) -> tuple[str, ...]:
        return (f"z_{self.site}",)


def basis(t: ArrayLike, count: int) -> jax.Array:
    """Return the functions phi_j at t, shape (rows, count)."""
    frequencies = jnp.pi * jnp.arange(1, count + 1) / (2 * BOUNDARY)
    return jnp.sin(frequencies[None] * (jnp.asarray(t)[:, None] + BOUNDARY)) / jnp.sqrt(BOUNDARY)


def _kernel(one: jax.Array, other: jax.Array, length: jax.Array) -> jax.Array:
    """Return correlations, shape (len(one), len(other))."""
    return jnp.exp(-0.5 * ((one[:, None] - other[None]) / length) ** 2)
