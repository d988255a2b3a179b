"""Sparse fits as small files and as torch modules; used through `bayesdl.sparse`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.conv import ConvNet
from bayesdl.bnn.networks import MLP
from bayesdl.bnn.spec import BNN
from bayesdl.data.validation import ModelError
from bayesdl.model.likelihoods import Normal
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving.archive import in_one_piece
from bayesdl.sparse.fitted import masks, sparse_parts
from inference.core.typing import Info, StoredArrays
from inference.sparse.decompression import SparseDecompression
from inference.sparse.posterior import SparseApproximation
from inference.sparse.products.portable import FORMAT, SparseNetwork, content_hash
from inference.sparse.variational.sites import ProblemSites

if TYPE_CHECKING:
    from bayesdl.sparse.torch_module import SparseModule


def export(post: Posterior, path: str | Path, bfloat16: bool = False) -> Path:
    """Write indices and moments only, in a file from which NumPy alone predicts.

    `inference.sparse.products.portable` reads it. In single precision it has 10 bytes for each
    active weight, with `bfloat16` 6, besides biases, row counts and scalings.

    Args:
        post: a fit with `SSVI(biases="point")` of a `BNN` whose inputs are numbers, with a class
            target or a normal likelihood that is not heteroscedastic; networks are `hidden=...` and
            `ConvNet`.
        path: the path of the file.
        bfloat16: whether to round means and scales to 8 significant bits.

    Returns:
        The path of the file.

    Raises:
        UnsupportedError: for a fit with another engine.
        ModelError: for a model that such a file cannot hold.
        BundleError: where the path cannot be written.
    """
    raw, decompression = sparse_parts(post)
    from safetensors.numpy import save

    arrays = _exported_arrays(post, raw, decompression)
    about = {"format": FORMAT, **_network_facts(post, raw, decompression)}
    if bfloat16:
        arrays |= {
            name: value.astype(jnp.bfloat16)
            for name, value in arrays.items()
            if name.endswith(("/mean", "/sd"))
        }
    path = Path(path)
    header = json.dumps(about | {"sha256": content_hash(arrays, about)})
    with in_one_piece(path) as beside:
        beside.write_bytes(save(arrays, {"about": header}))
    return path


def to_torch(post: Posterior) -> SparseModule:
    """Return the fitted network as a `torch.nn.Module`.

    It takes the fits that `export` takes; see `bayesdl.sparse.torch_module`. Its outputs are those
    of the network: logits, or means of the standardised target, y = shift + scale * f with the
    numbers in `module.network.about["target"]`; it does not know the noise.

    Raises:
        UnsupportedError: for a fit with another engine.
        ModelError: for a model that cannot be exported.
    """
    from bayesdl.sparse.torch_module import SparseModule

    raw, decompression = sparse_parts(post)
    about = {"format": FORMAT, **_network_facts(post, raw, decompression)}
    arrays = _exported_arrays(post, raw, decompression)
    return SparseModule(SparseNetwork(arrays, json.loads(json.dumps(about))))


def _exported_arrays(
    post: Posterior, raw: SparseApproximation, decompression: SparseDecompression
) -> StoredArrays:
    """Return the arrays of an exported file; see `inference.sparse.products.portable`."""
    layout, arrays = decompression.layout, {}
    parts = {}
    for part in ("mean", "scale"):
        stored = {name: jnp.asarray(raw.params[f"{name}/{part}"]) for name in layout.patterns}
        parts[part] = layout.matrices(decompression.index, stored)
    biases = _layer_biases(decompression.sites, raw)
    for layer, mask in masks(post).items():
        flat = mask.reshape(layout.flat_shape(layer))
        moments = (np.asarray(parts[part][layer]) for part in ("mean", "scale"))
        mean, sd = (moment.reshape(flat.shape) for moment in moments)
        if not flat.all():
            arrays[f"{layer}/counts"] = _narrow(flat.sum(1), flat.shape[1])
            arrays[f"{layer}/columns"] = _narrow(np.nonzero(flat)[1], flat.shape[1])
            mean, sd = mean[flat], sd[flat]
        arrays |= {f"{layer}/mean": mean, f"{layer}/sd": sd, f"{layer}/bias": biases[layer]}
    columns = post.schema.columns
    if any(columns.shift) or set(columns.scale) != {1.0}:
        arrays["inputs/shift"] = np.array(columns.shift, np.float32)
        arrays["inputs/scale"] = np.array(columns.scale, np.float32)
    return arrays


def _narrow(values: np.ndarray, largest: int) -> np.ndarray:
    """Return whole numbers in 16 bits where they fit."""
    return values.astype(np.uint16 if largest < 2**16 else np.uint32)


def _layer_biases(sites: ProblemSites, raw: SparseApproximation) -> StoredArrays:
    """Return the biases of each layer, by the name of its weights.

    Raises:
        ModelError: for biases that are not points with a fixed prior.
    """
    found = {}
    for latent, seen in sites.network.weights.items():
        if seen in sites.network.matrices:
            continue
        if f"{latent}/point" not in raw.params or latent != seen:
            raise ModelError(
                "Only biases that are points with a fixed prior can be exported: fit with "
                "SSVI(biases='point')."
            )
        found[seen.replace(".bias", ".weight")] = np.asarray(raw.params[f"{latent}/point"])
    return found


def _network_facts(
    post: Posterior, raw: SparseApproximation, decompression: SparseDecompression
) -> Info:
    """Return what the network is, and how its inputs and target are scaled.

    Raises:
        ModelError: for a model that a file cannot hold.
    """
    model, columns, layout = post.model, post.schema.columns, decompression.layout
    if not isinstance(model, BNN) or any(columns.levels):
        raise ModelError(
            "Only a BNN whose inputs are all numbers can be exported: encode categories as numbers "
            "first."
        )
    net = model.net
    if not isinstance(net, MLP | ConvNet):
        raise ModelError(f"A network of {type(net).__name__} cannot be exported.")
    return {
        "layers": {name: list(layout.flat_shape(name)) for name in layout.shapes},
        "network": {"kind": type(net).__name__} | dataclasses.asdict(net),
        "target": _target_facts(model, post, raw),
        "inputs": {
            "columns": list(columns.names) if columns.named else None,
            "width": len(columns.names),
        },
    }


def _target_facts(model: BNN, post: Posterior, raw: SparseApproximation) -> Info:
    """Return what the target is, and how it is scaled.

    Raises:
        ModelError: for a likelihood that a file cannot hold.
    """
    target, likelihood = post.schema.target, model.likelihood
    about: dict[str, Any] = {"kind": target.kind}
    if target.kind == "class":
        about["classes"] = list(target.classes)
    elif isinstance(likelihood, Normal) and likelihood.scale != "heteroscedastic":
        about |= {
            "shift": list(target.shift),
            "scale": list(target.scale),
            "sigma": _log_sigma_moments(likelihood, post, raw),
        }
    else:
        raise ModelError(
            f"A {type(likelihood).__name__} likelihood cannot be exported: expected classes or "
            "Normal()."
        )
    return about | {"flat": target.flat}


def _log_sigma_moments(
    likelihood: Normal, post: Posterior, raw: SparseApproximation
) -> list[float]:
    """Return mean and standard deviation of log sigma, for a standardised target."""
    if "sigma/loc" in raw.params:
        return [float(np.ravel(raw.params[f"sigma/{part}"])[0]) for part in ("loc", "scale")]
    # a prior would have made sigma a site
    assert likelihood.fixed_scale is not None
    return [math.log(likelihood.fixed_scale / post.schema.target.scale[0]), 0.0]
