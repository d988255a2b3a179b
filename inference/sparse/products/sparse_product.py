"""The network's products under q: random weights w = mean + sd eps, of which few are not zero.

    local    the outputs of a layer are drawn: m + sqrt(v) eps with m = M h and v = S h^2, eps for each row and unit
             (local reparametrisation, Kingma, Salimans and Welling 2015, arXiv:1506.02557)
    flipout  one draw of the weights for all rows, its noise with random signs for each row: M h + s (E (r h))
             (Wen et al. 2018, arXiv:1803.04386)
    weights  one draw of the weights for all rows

Each is exact for every row by itself. A convolution uses the same weights at all places of a row, whose outputs are therefore
correlated, so "local" takes flipout there, with the same signs at all places.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from inference.core.keys import named_key
from inference.core.structure import AbstractProduct
from inference.sparse.patterns.layout import Layout, Tiles
from inference.sparse.products.kernels import KERNELS

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
        noise = {name: sd[name] * normals(key, name, sd[name]) for name in sd}
        first = (
            {name: mean[name] + noise[name] for name in mean} if estimator == "weights" else mean
        )
        self.first = dict(layout.layers(index, first))
        self.noise = dict(layout.layers(index, noise))
        self.variance = dict(layout.layers(index, {name: sd[name] ** 2 for name in sd}))
        self.of_row = False

    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        columns = jnp.asarray(h).reshape(-1, h.shape[-1]).T
        rows = 1 if self.of_row else h.shape[0]
        out = self.probed(name, columns, self.columns(name, columns, rows).T)
        return out.reshape(*h.shape[:-1], out.shape[1])

    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        tiles, key = self.first[name], named_key(self.key, name)
        row = tiles.pattern.scattered(tiles.index, tiles.values)[number]
        if self.estimator == "flipout":
            noise = tiles.pattern.scattered(tiles.index, self.noise[name].values)[number]
            row = row + signs(key, row.shape, row.dtype) * noise
        elif self.estimator == "local":
            variance = tiles.pattern.scattered(tiles.index, self.variance[name].values)[number]
            row = row + jnp.sqrt(variance + TINY) * normal_like(key, row)
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
        own.key, own.given, own.of_row = jax.random.fold_in(self.key, row), {}, True
        if self.probes is not None:
            own.probes = {
                name: probe.reshape(total, -1, probe.shape[1])[row]
                for name, probe in self.probes.items()
            }
        return own

    def collect_inputs(self, inputs: dict[str, Any]) -> None:
        for name, given in inputs.items():  # shape (rows, in, places)
            self.given[name] = jnp.moveaxis(given, 1, 0).reshape(given.shape[1], -1)

    def columns(self, name: str, h: Any, rows: int) -> Any:
        """Outputs, shape (out, rows * places), for inputs of shape (in, rows * places)."""
        tiles, key = self.first[name], named_key(self.key, name)
        if self.estimator == "weights":
            return multiplied(tiles, h)
        if self.estimator == "flipout" or rows < h.shape[1]:
            places = h.shape[1] // rows
            into = jnp.repeat(signs(named_key(key, "in"), (h.shape[0], rows), h.dtype), places, 1)
            out = jnp.repeat(
                signs(named_key(key, "out"), (tiles.pattern.shape[0], rows), h.dtype), places, 1
            )
            return multiplied(tiles, h) + out * multiplied(self.noise[name], into * h)
        spread = self.variance[name].values
        mean, variance = KERNELS[tiles.kernel](tiles.pattern, h, tiles.index, tiles.values, spread)
        return mean + jnp.sqrt(variance + TINY) * normal_like(key, mean)


class Ignored(AbstractProduct):
    """Gives zeros: for programs whose likelihood is not looked at."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        return jnp.zeros((*h.shape[:-1], self.layout.flat_shape(name)[0]))

    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        return jnp.zeros(self.layout.flat_shape(name)[1])


class Watching(AbstractProduct):
    """Gives zeros, and refuses networks whose layers it cannot follow: those that a row uses twice, or in a `vmap` of its own.

    Raises:
        LayerError: where a layer is used twice.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        return self.watched(name, h, jnp.zeros((*h.shape[:-1], weight.shape[0])))

    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        return self.watched(name, number, jnp.zeros(weight.shape[1]))

    def watched(self, name: str, given: Any, out: Any) -> Any:
        if name in self.given:
            raise LayerError(name)
        self.given[name] = given
        return out

    @property
    def inputs(self) -> dict[str, Any]:
        return self.given

    def for_row(self, row: Any, total: int) -> Watching:
        return Watching()


class LayerError(ValueError):
    """A layer that is used twice."""


def multiplied(tiles: Tiles, h: Any) -> Any:
    """W h."""
    return KERNELS[tiles.kernel](tiles.pattern, h, tiles.index, tiles.values, None)[0]


def normals(key: jax.Array, name: str, like: Any) -> Any:
    """Standard normal noise for a store."""
    return normal_like(named_key(key, name), like)


def normal_like(key: jax.Array, like: Any) -> Any:
    """Standard normal noise of a shape."""
    return jax.random.normal(key, like.shape, like.dtype)


def signs(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.random.rademacher(key, shape, dtype)
