"""Sparse fits as small files and as torch modules; used through `bayesdl.sparse`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.conv import ConvNet
from bayesdl.bnn.networks import MLP
from bayesdl.bnn.spec import BNN
from bayesdl.data.validation import ModelError
from bayesdl.model.likelihoods import Normal
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving.bundle import in_one_piece
from bayesdl.sparse.fitted import masks, unpacking_of
from inference.core.result import Approximation
from inference.sparse.posterior import Unpacking
from inference.sparse.products.portable import FORMAT, SparseNetwork, hash_of
from inference.sparse.variational.sites import Sites


def export(post: Posterior, path: str | Path, bfloat16: bool = False) -> Path:
    """Writes indices and moments only, in a file that `inference.sparse.products.portable` predicts from with NumPy alone.

    In single precision it has 10 bytes for each active weight, with `bfloat16` 6, besides biases, row counts and scalings.

    Args:
        post: a fit by `SSVI(biases="point")` of a `BNN` whose inputs are numbers, with a class target or a normal likelihood
            that is not heteroscedastic; networks are `hidden=...` and `ConvNet`.
        path: of the file.
        bfloat16: whether to round means and scales to 8 significant bits.

    Raises:
        TypeError: for a fit by another engine.
        ModelError: for a model that such a file cannot hold.
        BundleError: where the path cannot be written.
    """
    raw, unpacking = unpacking_of(post)
    from safetensors.numpy import save

    arrays = exported_arrays(post, raw, unpacking)
    about = {"format": FORMAT, **network_facts(post, raw, unpacking)}
    if bfloat16:
        arrays |= {
            name: value.astype(jnp.bfloat16)
            for name, value in arrays.items()
            if name.endswith(("/mean", "/sd"))
        }
    path = Path(path)
    with in_one_piece(path) as beside:
        beside.write_bytes(
            save(arrays, {"about": json.dumps(about | {"sha256": hash_of(arrays, about)})})
        )
    return path


def to_torch(post: Posterior) -> Any:
    """The fitted network as a `torch.nn.Module`, of the fits that `export` takes; see `bayesdl.sparse.torch_module`.

    Its outputs are those of the network: logits, or means of the standardised target, y = shift + scale * f with the numbers in
    `module.network.about["target"]`; it does not know the noise.

    Raises:
        TypeError: for a fit by another engine.
        ModelError: for a model that cannot be exported.
    """
    from bayesdl.sparse.torch_module import SparseModule

    raw, unpacking = unpacking_of(post)
    about = {"format": FORMAT, **network_facts(post, raw, unpacking)}
    return SparseModule(
        SparseNetwork(exported_arrays(post, raw, unpacking), json.loads(json.dumps(about)))
    )


def exported_arrays(
    post: Posterior, raw: Approximation, unpacking: Unpacking
) -> dict[str, np.ndarray]:
    """The arrays of an exported file; see `inference.sparse.products.portable`."""
    layout, arrays = unpacking.layout, {}
    parts = {
        part: layout.matrices(
            unpacking.index,
            {name: jnp.asarray(raw.params[f"{name}/{part}"]) for name in layout.patterns},
        )
        for part in ("mean", "scale")
    }
    biases = biases_of(post, unpacking.sites, raw)
    for layer, mask in masks(post).items():
        flat = mask.reshape(layout.flat_shape(layer))
        mean, sd = (
            np.asarray(parts[part][layer]).reshape(flat.shape) for part in ("mean", "scale")
        )
        if not flat.all():
            arrays[f"{layer}/counts"] = narrow(flat.sum(1), flat.shape[1])
            arrays[f"{layer}/columns"] = narrow(np.nonzero(flat)[1], flat.shape[1])
            mean, sd = mean[flat], sd[flat]
        arrays |= {f"{layer}/mean": mean, f"{layer}/sd": sd, f"{layer}/bias": biases[layer]}
    columns = post.schema.columns
    if any(columns.shift) or set(columns.scale) != {1.0}:
        arrays["inputs/shift"], arrays["inputs/scale"] = (
            np.array(v, np.float32) for v in (columns.shift, columns.scale)
        )
    return arrays


def narrow(values: np.ndarray, largest: int) -> np.ndarray:
    """Whole numbers in 16 bits where they fit."""
    return values.astype(np.uint16 if largest < 2**16 else np.uint32)


def biases_of(post: Posterior, sites: Sites, raw: Approximation) -> dict[str, np.ndarray]:
    """The biases of each layer, by the name of its weights."""
    found = {}
    for latent, seen in sites.network.weights.items():
        if seen in sites.network.matrices:
            continue
        if f"{latent}/point" not in raw.params or latent != seen:
            raise ModelError(
                "Only biases that are points with a fixed prior can be exported: fit with SSVI(biases='point')."
            )
        found[seen.replace(".bias", ".weight")] = np.asarray(raw.params[f"{latent}/point"])
    return found


def network_facts(post: Posterior, raw: Approximation, unpacking: Unpacking) -> dict[str, Any]:
    """What the network is, and how its target is scaled.

    Raises:
        ModelError: for a model that a file cannot hold.
    """
    model, columns, target = post.model, post.schema.columns, post.schema.target
    if not isinstance(model, BNN) or any(columns.levels):
        raise ModelError(
            "Only a BNN whose inputs are all numbers can be exported: encode categories as numbers first."
        )
    net = model.net
    network = (
        {"kind": type(net).__name__} | dataclasses.asdict(net)
        if isinstance(net, MLP | ConvNet)
        else None
    )
    if network is None:
        raise ModelError(f"A network of {type(net).__name__} cannot be exported.")
    kind = target.kind
    about: dict[str, Any] = {"kind": kind}
    if kind == "class":
        about["classes"] = list(target.classes)
    elif isinstance(model.likelihood, Normal) and model.likelihood.scale != "heteroscedastic":
        about |= {
            "shift": list(target.shift),
            "scale": list(target.scale),
            "sigma": sigma_of(model.likelihood, post, raw),
        }
    else:
        raise ModelError(
            f"A {type(model.likelihood).__name__} likelihood cannot be exported: expected classes or Normal()."
        )
    shapes = {name: list(unpacking.layout.flat_shape(name)) for name in unpacking.layout.shapes}
    about["flat"] = target.flat
    inputs = {
        "columns": list(columns.names) if columns.named else None,
        "width": len(columns.names),
    }
    return {"layers": shapes, "network": network, "target": about, "inputs": inputs}


def sigma_of(likelihood: Normal, post: Posterior, raw: Approximation) -> list[float]:
    """Mean and sd of log sigma in standardised units."""
    if "sigma/loc" in raw.params:
        return [float(np.ravel(raw.params[f"sigma/{part}"])[0]) for part in ("loc", "scale")]
    assert likelihood.fixed_scale is not None  # a prior would have made it a site
    return [math.log(likelihood.fixed_scale / post.schema.target.scale[0]), 0.0]
