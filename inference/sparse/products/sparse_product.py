"""The network's products under q: random weights w = mean + sd eps, of which few are not zero.

    local    the outputs of a layer are drawn: m + sqrt(v) eps with m = M h and v = S h^2, eps for
             each row and unit (local reparametrisation, Kingma, Salimans and Welling 2015,
             arXiv:1506.02557)
    flipout  one draw of the weights for all rows, its noise with random signs for each row:
             M h + s (E (r h)) (Wen et al. 2018, arXiv:1803.04386)
    weights  one draw of the weights for all rows

Each is exact for every row by itself. A convolution uses the same weights at all places of a row,
whose outputs are therefore correlated, so "local" takes flipout there, with the same signs at all
places.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from inference.core.keys import named_key
from inference.core.structure import AbstractProduct
from inference.core.typing import AnyArray, Key, SiteArrays, Tensor
from inference.sparse.patterns.layout import Layout, Tiles
from inference.sparse.products.kernels import KERNELS

ESTIMATORS = ("local", "flipout", "weights")
TINY = 1e-12
"""A number added to variances of outputs: the derivative of a root at zero is infinite."""


class LayerError(ValueError):
    """A layer is used twice for one row."""


class SparseProduct(AbstractProduct):
    """Products with weights drawn from q.

    Args:
        layout: the stores of the network.
        index: the active tiles of each store.
        mean: the means of their weights.
        sd: the standard deviations of their weights.
        key: the random key of the noise.
        estimator: one of `ESTIMATORS`.
        probes: by layer, zeros of the shape of its outputs, (rows, out), which are added to them:
            derivatives by the probes are those by the outputs. Where probes are given, even an
            empty dictionary, `inputs` holds the inputs of each layer after the network has run,
            shape (in, rows); for a lookup it says which row was taken, shape (out, rows).
    """

    def __init__(
        self,
        layout: Layout,
        index: Mapping[str, AnyArray],
        mean: Mapping[str, AnyArray],
        sd: Mapping[str, AnyArray],
        key: Key,
        estimator: str,
        probes: Mapping[str, AnyArray] | None = None,
    ) -> None:
        self.key, self.estimator, self.probes = key, estimator, probes
        self.layer_inputs: SiteArrays = {}
        noise = {name: sd[name] * store_noise(key, name, sd[name]) for name in sd}
        if estimator == "weights":
            first: Mapping[str, AnyArray] = {name: mean[name] + noise[name] for name in mean}
        else:
            first = mean
        self.first = dict(layout.layers(index, first))
        self.noise = dict(layout.layers(index, noise))
        self.variance = dict(layout.layers(index, {name: sd[name] ** 2 for name in sd}))
        self.is_single_row = False

    def __call__(self, name: str, h: Tensor, weight: Tensor) -> jax.Array:
        inputs = jnp.asarray(h)
        columns = inputs.reshape(-1, inputs.shape[-1]).T
        rows = 1 if self.is_single_row else inputs.shape[0]
        out = self.add_probe(name, columns, self.layer_outputs(name, columns, rows).T)
        return out.reshape(*inputs.shape[:-1], out.shape[1])

    def lookup(self, name: str, number: ArrayLike, weight: Tensor) -> jax.Array:
        tiles, key = self.first[name], named_key(self.key, name)
        row = tiles.pattern.scatter(tiles.index, tiles.values)[number]
        if self.estimator == "flipout":
            noise = tiles.pattern.scatter(tiles.index, self.noise[name].values)[number]
            row = row + _random_signs(key, row.shape, row.dtype) * noise
        elif self.estimator == "local":
            variance = tiles.pattern.scatter(tiles.index, self.variance[name].values)[number]
            row = row + jnp.sqrt(variance + TINY) * _standard_normal(key, row)
        taken = jax.nn.one_hot(number, tiles.pattern.shape[0], dtype=row.dtype)
        return self.add_probe(name, taken[:, None], row[None, :])[0]

    def add_probe(self, name: str, inputs: jax.Array, out: jax.Array) -> jax.Array:
        """Keep what a layer was given, and add the probe to its outputs, shape (rows, out)."""
        if self.probes is None:
            return out
        self.layer_inputs[name] = inputs
        return out + self.probes[name] if name in self.probes else out

    @property
    def inputs(self) -> SiteArrays:
        return self.layer_inputs

    def for_row(self, row: ArrayLike, total: int) -> SparseProduct:
        own = copy.copy(self)
        own.key, own.layer_inputs = jax.random.fold_in(self.key, row), {}
        own.is_single_row = True
        if self.probes is not None:
            number = jnp.asarray(row)
            own.probes = {
                name: probe.reshape(total, -1, probe.shape[1])[number]
                for name, probe in self.probes.items()
            }
        return own

    def collect_inputs(self, inputs: SiteArrays) -> None:
        for name, given in inputs.items():
            # given has shape (rows, in, places)
            self.layer_inputs[name] = jnp.moveaxis(given, 1, 0).reshape(given.shape[1], -1)

    def layer_outputs(self, name: str, h: jax.Array, rows: int) -> jax.Array:
        """Return outputs, shape (out, rows * places), for inputs of shape (in, rows * places)."""
        tiles, key = self.first[name], named_key(self.key, name)
        if self.estimator == "weights":
            return _multiply(tiles, h)
        if self.estimator == "flipout" or rows < h.shape[1]:
            units, places = tiles.pattern.shape[0], h.shape[1] // rows
            into = jnp.repeat(
                _random_signs(named_key(key, "in"), (h.shape[0], rows), h.dtype), places, 1
            )
            out = jnp.repeat(
                _random_signs(named_key(key, "out"), (units, rows), h.dtype), places, 1
            )
            return _multiply(tiles, h) + out * _multiply(self.noise[name], into * h)
        spread = self.variance[name].values
        mean, variance = KERNELS[tiles.kernel](tiles.pattern, h, tiles.index, tiles.values, spread)
        assert variance is not None
        return mean + jnp.sqrt(variance + TINY) * _standard_normal(key, mean)


class ZeroProduct(AbstractProduct):
    """Gives zeros of the right shape, for programs whose likelihood is not used."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, name: str, h: Tensor, weight: Tensor) -> jax.Array:
        return jnp.zeros((*h.shape[:-1], self.layout.flat_shape(name)[0]))

    def lookup(self, name: str, number: ArrayLike, weight: Tensor) -> jax.Array:
        return jnp.zeros(self.layout.flat_shape(name)[1])


class LayerRecorder(AbstractProduct):
    """Gives zeros, and refuses networks whose layers it cannot follow.

    These are layers that a row uses twice, or in a `vmap` of its own.

    Raises:
        LayerError: where a layer is used twice.
    """

    def __init__(self) -> None:
        self.layer_inputs: dict[str, Tensor | ArrayLike] = {}

    def __call__(self, name: str, h: Tensor, weight: Tensor) -> jax.Array:
        return self.record(name, h, jnp.zeros((*h.shape[:-1], weight.shape[0])))

    def lookup(self, name: str, number: ArrayLike, weight: Tensor) -> jax.Array:
        return self.record(name, number, jnp.zeros(weight.shape[1]))

    def record(self, name: str, given: Tensor | ArrayLike, out: jax.Array) -> jax.Array:
        """Keep what a layer was given, and return its outputs."""
        if name in self.layer_inputs:
            raise LayerError(name)
        self.layer_inputs[name] = given
        return out

    @property
    def inputs(self) -> dict:
        return self.layer_inputs

    def for_row(self, row: ArrayLike, total: int) -> LayerRecorder:
        return LayerRecorder()


def _multiply(tiles: Tiles, h: jax.Array) -> jax.Array:
    """Return W h."""
    return KERNELS[tiles.kernel](tiles.pattern, h, tiles.index, tiles.values, None)[0]


def store_noise(key: Key, name: str, like: AnyArray) -> jax.Array:
    """Draw standard normal noise for a store or a site, of the shape of `like`."""
    return _standard_normal(named_key(key, name), like)


def _standard_normal(key: Key, like: AnyArray) -> jax.Array:
    """Draw standard normal noise of the shape and type of `like`."""
    return jax.random.normal(key, like.shape, like.dtype)


def _random_signs(key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Draw signs, -1 and 1 with equal probability."""
    return jax.random.rademacher(key, shape, dtype)
