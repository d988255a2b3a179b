"""The network's products under q: random weights w = mean + sd eps, of which few are not zero.

local    the outputs of a layer are drawn: m + sqrt(v) eps with m = M h and v = S h^2, eps for each row and unit
(local reparametrisation, Kingma, Salimans and Welling 2015, arXiv:1506.02557); exact for each row by itself
flipout  one draw of the weights for all rows, its noise with random signs for each row: M h + s (E (r h))
(Wen et al. 2018, arXiv:1803.04386)
weights  one draw of the weights for all rows
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from inference.keys import named
from inference.structure import AbstractProduct
from inference.vi.sparse.kernels import KERNELS
from inference.vi.sparse.layout import Layout, Tiles

ESTIMATORS = ("local", "flipout", "weights")
TINY = 1e-12  # added to variances of outputs: the derivative of a root at zero is infinite


class SparseProduct(AbstractProduct):
    """Products with weights drawn from q.

    Args:
        layout: of the stores.
        index: the active tiles of each store.
        mean: of their weights.
        sd: of their weights.
        key: of the noise.
        estimator: one of `ESTIMATORS`.
        probes: by layer zeros of the shape of its outputs, (rows, out), which are added to them: derivatives by them are those
            by the outputs. Where given, even empty, `inputs` has the inputs of each layer after the network has run, shape
            (in, rows); for a lookup which row was taken, shape (out, rows).
    """

    def __init__(
        self,
        layout: Layout,
        index: Mapping[str, Any],
        mean: Mapping[str, Any],
        sd: Mapping[str, Any],
        key: jax.Array,
        estimator: str,
        probes: Mapping[str, Any] | None = None,
    ) -> None:
        self.key, self.estimator, self.probes = key, estimator, probes
        self.given: dict[str, Any] = {}
        noise = {} if estimator == "local" else {name: sd[name] * normals(key, name, sd[name]) for name in sd}
        first = {name: mean[name] + noise[name] for name in mean} if estimator == "weights" else mean
        second = {"local": {name: sd[name] ** 2 for name in sd}, "flipout": noise, "weights": None}[estimator]
        self.first = dict(layout.layers(index, first))
        self.second = None if second is None else dict(layout.layers(index, second))

    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        columns = jnp.asarray(h).reshape(-1, h.shape[-1]).T
        out = self.columns(name, columns)
        out = self.probed(name, columns, out.T)
        return out.reshape(*h.shape[:-1], out.shape[1])

    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        tiles, key = self.first[name], named(self.key, name)
        row = tiles.pattern.scattered(tiles.index, tiles.values)[number]
        if self.second is not None:
            other = tiles.pattern.scattered(tiles.index, self.second[name].values)[number]
            flipped = self.estimator == "flipout"
            noise = signs(key, row.shape, row.dtype) * other if flipped else jnp.sqrt(other + TINY) * normal_like(key, row)
            row = row + noise
        taken = jax.nn.one_hot(number, tiles.pattern.shape[0], dtype=row.dtype)
        return self.probed(name, taken[:, None], row[None, :])[0]

    def probed(self, name: str, given: Any, out: Any) -> Any:
        """Outputs, shape (rows, out), with the probe added; keeps what the layer was given."""
        if self.probes is None:
            return out
        self.given[name] = given
        return out + self.probes[name] if name in self.probes else out

    @property
    def inputs(self) -> dict[str, Any]:
        return self.given

    def for_row(self, row: Any, total: int) -> SparseProduct:
        own = copy.copy(self)
        own.key, own.given = jax.random.fold_in(self.key, row), {}
        if self.probes is not None:
            own.probes = {name: probe.reshape(total, -1, probe.shape[1])[row] for name, probe in self.probes.items()}
        return own

    def saw(self, inputs: dict[str, Any]) -> None:
        for name, given in inputs.items():  # shape (rows, in, places)
            self.given[name] = jnp.moveaxis(given, 1, 0).reshape(given.shape[1], -1)

    def columns(self, name: str, h: Any) -> Any:
        """Outputs, shape (out, rows), for inputs of shape (in, rows)."""
        tiles = self.first[name]
        if self.second is None:
            return multiplied(tiles, h)
        other, key = self.second[name], named(self.key, name)
        if self.estimator == "flipout":
            into, out = (
                signs(named(key, "in"), h.shape, h.dtype),
                signs(named(key, "out"), (tiles.pattern.shape[0], h.shape[1]), h.dtype),
            )
            return multiplied(tiles, h) + out * multiplied(other, into * h)
        mean, variance = KERNELS[tiles.kernel](tiles.pattern, h, tiles.index, tiles.values, other.values)
        return mean + jnp.sqrt(variance + TINY) * normal_like(key, mean)


class Ignored(AbstractProduct):
    """Gives zeros: for programs whose likelihood is not looked at."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        return jnp.zeros((*h.shape[:-1], self.layout.flat_shape(name)[0]))

    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        return jnp.zeros(self.layout.flat_shape(name)[1])


def multiplied(tiles: Tiles, h: Any) -> Any:
    """W h."""
    return KERNELS[tiles.kernel](tiles.pattern, h, tiles.index, tiles.values, None)[0]


def normals(key: jax.Array, name: str, like: Any) -> Any:
    """Standard normal noise for a store."""
    return normal_like(named(key, name), like)


def normal_like(key: jax.Array, like: Any) -> Any:
    """Standard normal noise of a shape."""
    return jax.random.normal(key, like.shape, like.dtype)


def signs(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.random.rademacher(key, shape, dtype)
