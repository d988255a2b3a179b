"""Equinox modules as networks.

A module maps one row to an output. Where an engine has its own product, the linear layers,
convolutions and embeddings of the module use it; all else runs as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bayesdl.bnn.networks import PLAIN, AbstractNetwork
from bayesdl.model.language import Language, Tensor
from bayesdl.priors import WeightArray
from inference.core.structure import AbstractProduct, PlainProduct
from inference.process.cached import cached


@dataclasses.dataclass(frozen=True, eq=False)
class EquinoxNetwork(AbstractNetwork):
    """An Equinox module that maps one row to an output, with its floating-point arrays as weights.

    Attributes:
        module: the Equinox module.
    """

    module: Any

    def _arrays(self) -> tuple[list[tuple[str, jax.Array]], Any, PyTree]:
        """Return the named arrays of the module, their tree, and all else in the module."""
        import equinox as eqx

        weights, rest = eqx.partition(self.module, eqx.is_inexact_array)
        paths, structure = jax.tree_util.tree_flatten_with_path(weights)
        named = [
            (jax.tree_util.keystr(path, simple=True, separator="."), array) for path, array in paths
        ]
        return named, structure, rest

    @cached
    def multiplies(self) -> bool:
        """Whether all weights belong to layers that `with_product` knows."""
        known = {_weight_name(name) for name, _ in _known_layers(self.module)}
        return all(array.is_bias or array.name in known for array in self.weight_arrays(0, 0))

    @cached
    def lookups(self) -> tuple[str, ...]:
        """Names of the weights of all embeddings."""
        import equinox as eqx

        return tuple(
            _weight_name(name)
            for name, layer in _known_layers(self.module)
            if isinstance(layer, eqx.nn.Embedding)
        )

    def weight_arrays(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        named, _, _ = self._arrays()
        owners = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in named))
        return tuple(
            WeightArray(
                name,
                tuple(array.shape),
                max(1, array.size // array.shape[0]) if array.ndim > 1 else 1,
                owners.index(name.rpartition(".")[0]),
                array.ndim < 2 or name.endswith("bias"),
            )
            for name, array in named
        )

    def apply(
        self,
        weights: dict[str, Tensor],
        X: Tensor,
        lang: Language,
        product: AbstractProduct = PLAIN,
    ) -> Tensor:
        import equinox as eqx

        named, structure, rest = self._arrays()
        module = eqx.combine(
            jax.tree.unflatten(structure, [weights[name] for name, _ in named]), rest
        )

        def row(x: jax.Array, number: jax.Array) -> tuple[jax.Array, dict]:
            own = product.for_row(number, X.shape[0])
            return with_product(module, own)(x), own.inputs

        outputs, inputs = jax.vmap(row)(X, jnp.arange(X.shape[0]))
        product.collect_inputs(inputs)
        return outputs.reshape(X.shape[0], -1)


def _is_known_layer(part: object) -> bool:
    """Whether a part of a module is a linear layer, an ungrouped convolution or an embedding."""
    import equinox as eqx

    if isinstance(part, eqx.nn.Conv):
        return part.groups == 1 and part.padding_mode == "ZEROS"
    return isinstance(part, eqx.nn.Linear | eqx.nn.Embedding)


def _weight_name(layer: str) -> str:
    """Return the name of the weights of a layer; the module itself has an empty name."""
    return f"{layer}.weight".lstrip(".")


def _known_layers(module: PyTree) -> list[tuple[str, Any]]:
    """List the known layers of a module by name."""
    paths, _ = jax.tree_util.tree_flatten_with_path(module, is_leaf=_is_known_layer)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), part)
        for path, part in paths
        if _is_known_layer(part)
    ]


def with_product(module: PyTree, product: AbstractProduct) -> PyTree:
    """Return the module with its known layers multiplying by a product."""
    if isinstance(product, PlainProduct):
        return module
    paths, structure = jax.tree_util.tree_flatten_with_path(module, is_leaf=_is_known_layer)
    parts = [
        ProductLayer(jax.tree_util.keystr(path, simple=True, separator="."), part, product)
        if _is_known_layer(part)
        else part
        for path, part in paths
    ]
    return jax.tree.unflatten(structure, parts)


class ProductLayer:
    """A layer of a module that multiplies by a product.

    Args:
        name: the name of the layer.
        layer: the layer of Equinox, whose other attributes are those of this object.
        product: how to multiply by the layer's weights.
    """

    def __init__(self, name: str, layer: Any, product: AbstractProduct) -> None:
        self.name, self.layer, self.product = _weight_name(name), layer, product

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, x: jax.Array, *, key: object = None) -> jax.Array:
        import equinox as eqx

        layer, bias = self.layer, getattr(self.layer, "bias", None)
        if isinstance(layer, eqx.nn.Embedding):
            return self.product.lookup(self.name, x, layer.weight)
        h = jnp.atleast_1d(x) if isinstance(layer, eqx.nn.Linear) else _extract_patches(layer, x)
        out = self.product(self.name, h, layer.weight.reshape(layer.weight.shape[0], -1))
        out = jnp.moveaxis(out, -1, 0)
        out = out if bias is None else out + bias
        return (
            out[0] if isinstance(layer, eqx.nn.Linear) and layer.out_features == "scalar" else out
        )


def _extract_patches(layer: Any, x: jax.Array) -> jax.Array:
    """Return the inputs of a convolution at each place, shape (*places, channels * kernel)."""
    found = jax.lax.conv_general_dilated_patches(
        x[None], layer.kernel_size, layer.stride, layer.padding, rhs_dilation=layer.dilation
    )
    return jnp.moveaxis(found[0], 0, -1)
