"""A normalising flow over the log scales of all arrays: correlated, skewed, with any tails."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform

from bayesdl.data.validation import ModelError
from bayesdl.model.language import NUMPYRO, Language, Tensor
from bayesdl.priors.base import WeightArray, replace_fields, sample_scaled
from bayesdl.priors.family import AbstractFamily
from inference.core.typing import SiteArrays

LOG_SCALES = "log_scales"


class SinhArcsinhTransform(Transform):
    """y = location + B sinh((arcsinh(A x) + skew) / tail) on vectors.

    The middle part is the transformation of Jones and Pewsey (2009).

    Args:
        first: the matrix A, lower triangular with unit diagonal.
        second: the matrix B, lower triangular with positive diagonal.
        location: the location, a vector.
        skew: the skewness of each entry, a vector.
        tail: the weight of the tails of each entry, a positive vector; 1 is normal.
    """

    domain = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    codomain = constraints.real_vector  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        first: jax.Array,
        second: jax.Array,
        location: jax.Array,
        skew: jax.Array,
        tail: jax.Array,
    ) -> None:
        self.first, self.second = first, second
        self.location, self.skew, self.tail = location, skew, tail

    def __call__(self, x: jax.Array) -> jax.Array:
        skew, tail, location = (
            jnp.broadcast_to(part, x.shape) for part in (self.skew, self.tail, self.location)
        )
        inner = (jnp.arcsinh(_matvec(self.first, x)) + skew) / tail
        return location + _matvec(self.second, jnp.sinh(inner))

    def undo_outer(self, y: jax.Array) -> jax.Array:
        """Return w = B^-1 (y - location)."""
        return _matvec(_inverse_lower(self.second), y - jnp.broadcast_to(self.location, y.shape))

    def _inverse(self, y: jax.Array) -> jax.Array:
        skew, tail = (jnp.broadcast_to(part, y.shape) for part in (self.skew, self.tail))
        return _matvec(
            _inverse_lower(self.first), jnp.sinh(jnp.arcsinh(self.undo_outer(y)) * tail - skew)
        )

    def log_abs_det_jacobian(
        self, x: jax.Array, y: jax.Array, intermediates: object = None
    ) -> jax.Array:
        v, w = _matvec(self.first, x), self.undo_outer(y)
        # cosh(arcsinh(w)) = sqrt(1 + w^2)
        each = jnp.log1p(w**2) / 2 - jnp.log1p(v**2) / 2
        return each.sum(-1) + jnp.log(jnp.diag(self.second)).sum() - jnp.log(self.tail).sum()

    def tree_flatten(self) -> tuple:
        names = ("first", "second", "location", "skew", "tail")
        return tuple(getattr(self, name) for name in names), (names, {})


def _matvec(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """Multiply a matrix with each of the vectors in the last axis of x."""
    return jnp.einsum("ij,...j->...i", matrix, x)


def _inverse_lower(lower: jax.Array) -> jax.Array:
    """Invert a lower triangular matrix."""
    return jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower)), lower=True)


@dataclasses.dataclass(frozen=True)
class ScaleFlow(AbstractFamily):
    """log s ~ a flow, then W_l = s_l z and b_l = s'_l z with z ~ N(0, 1).

    With u ~ N(0, I): v = A u, w = sinh((arcsinh(v) + skew) / tail), log s = location + B w. A is
    lower triangular with unit diagonal, B with positive diagonal. The density is exact in both
    directions. Each function has its own scales.

    Args:
        location: the location of the log scales, in the order of the network's arrays (weight
            and bias of layer 0, of layer 1, ...); None starts at 0.
        first: the strictly lower part of A, row by row.
        second: the lower part of B, row by row, its diagonal as logarithms.
        skew: the skewness of each entry of w.
        tail: the logarithm of the tail parameter of each entry of w: above 0 for lighter, below 0
            for heavier tails than normal.

    Raises:
        ValueError: for fields whose lengths do not go together.

    Example:
        >>> ScaleFlow().location is None
        True
    """

    location: tuple[float, ...] | None = None
    first: tuple[float, ...] | None = None
    second: tuple[float, ...] | None = None
    skew: tuple[float, ...] | None = None
    tail: tuple[float, ...] | None = None
    scale_per_array: ClassVar[bool] = True
    in_pyro: ClassVar[bool] = False
    fields: ClassVar[tuple[str, ...]] = ("location", "first", "second", "skew", "tail")

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.fields}
        if all(value is None for value in values.values()):
            return
        if any(value is None for value in values.values()):
            raise ValueError(
                "ScaleFlow: give all fields or none; none is for bdl.match_prior to tune."
            )
        d = len(values["location"])
        lengths = {
            "location": d,
            "first": d * (d - 1) // 2,
            "second": d * (d + 1) // 2,
            "skew": d,
            "tail": d,
        }
        for name, value in values.items():
            value = tuple(float(entry) for entry in value)
            if len(value) != lengths[name] or not all(map(math.isfinite, value)):
                raise ValueError(
                    f"ScaleFlow({name}=...): got {len(value)} numbers, "
                    f"expected {lengths[name]} finite ones."
                )
            object.__setattr__(self, name, value)

    def check(self, num_layers: int, activation: str | None = None) -> None:
        known = None if self.location is None else len(self.location)
        if known is not None and known > 2 * num_layers:
            raise ModelError(
                f"ScaleFlow has {known} scales and the network has {num_layers} layers: match it "
                "to this network with "
                "bdl.match_prior(model, to=..., family=bdl.priors.ScaleFlow())."
            )

    def initialised(self, arrays: tuple[WeightArray, ...]) -> ScaleFlow:
        d = len(arrays)
        if self.location is not None and len(self.location) != d:
            raise ModelError(
                f"ScaleFlow has {len(self.location)} scales and the network has {d} arrays of "
                "weights."
            )
        diagonal = np.full((d, d), 0.0)
        np.fill_diagonal(diagonal, math.log(0.3))
        start = {
            "location": np.zeros(d),
            "first": np.zeros(d * (d - 1) // 2),
            "second": diagonal[np.tril_indices(d)],
            "skew": np.zeros(d),
            "tail": np.zeros(d),
        }
        if self.location is not None:
            return self
        return self.with_params({name: jnp.asarray(start[name]) for name in self.fields})

    def parameters(self) -> SiteArrays:
        return {name: jnp.asarray(getattr(self, name), float) for name in self.fields}

    def with_params(self, parameters: SiteArrays) -> ScaleFlow:
        return replace_fields(self, {name: parameters[name] for name in self.fields})

    def as_floats(self) -> ScaleFlow:
        return replace_fields(
            self, {name: tuple(map(float, np.asarray(getattr(self, name)))) for name in self.fields}
        )

    def distribution(self, num_scales: int) -> dist.Distribution:
        """Return the distribution of the log scales."""
        p = self.parameters()
        rows, columns = np.tril_indices(num_scales, -1)
        first = jnp.eye(num_scales).at[rows, columns].set(p["first"])
        rows, columns = np.tril_indices(num_scales)
        second = jnp.zeros((num_scales, num_scales)).at[rows, columns].set(p["second"])
        second = jnp.tril(second, -1) + jnp.diag(jnp.exp(jnp.diag(second)))
        base = dist.Normal(0.0, 1.0).expand((num_scales,)).to_event(1)
        return dist.TransformedDistribution(
            base, SinhArcsinhTransform(first, second, p["location"], p["skew"], jnp.exp(p["tail"]))
        )

    def draws(self, arrays: tuple[WeightArray, ...], lang: Language) -> dict[str, Tensor]:
        if lang is not NUMPYRO:
            raise ModelError("ScaleFlow is a NumPyro prior: take an engine other than Pyro's.")
        log_scales = lang.sample(LOG_SCALES, self.initialised(arrays).distribution(len(arrays)))
        return {
            array.name: sample_scaled(array, jnp.exp(log_scales[i]), lang)
            for i, array in enumerate(arrays)
        }

    def weight_site(self, array: WeightArray) -> str:
        return f"{array.name}.raw"

    def is_scale(self, site: str) -> bool:
        return site == LOG_SCALES

    def __str__(self) -> str:
        if self.location is None:
            return "ScaleFlow, not matched"
        log_scales = self.distribution(len(self.location))
        draws = np.exp(np.asarray(log_scales.sample(jax.random.key(0), (4000,))))
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
        lines = ["array    5 %   median    95 %  of the scale"]
        rows = zip(low, middle, high, strict=True)
        return "\n".join(
            lines + [f"{i:>5} {a:>6.3g} {b:>8.3g} {c:>7.3g}" for i, (a, b, c) in enumerate(rows)]
        )
