"""Saved fits: a `.bdl` file is a zip of `manifest.json`, `arrays.safetensors` and, for draws, `posterior.nc`.

The manifest holds the schema version, the specs of model, engine and frame as data, library versions and a hash of the
training data. The training data are stored too, as processes and continued runs need them. Nothing in a bundle is code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesdl import spec
from bayesdl.model import AbstractModel, Program, as_model
from bayesdl.posterior import Posterior
from bayesdl.precision import precision_of
from inference.result import Draws

SCHEMA = 1
LIBRARIES = ("bayesdl", "jax", "numpyro", "numpy")


class BundleError(ValueError):
    """A file that is not a bundle, or one that cannot be read here."""


def save(posterior: Posterior, path: str | Path) -> Path:
    """Writes a bundle beside its final place and renames it, so that no half-written file is left.

    Raises:
        BundleError: where the path cannot be written.
    """
    path = Path(path)
    draws = isinstance(posterior.raw, Draws)
    in_netcdf = ("samples/", "stats/") if draws else ()
    arrays = {f"result/{k}": v for k, v in posterior.raw.arrays().items() if not k.startswith(in_netcdf)}
    leaves, layout = pack((posterior.problem.args, dict(posterior.problem.kwargs)))
    arrays |= {f"data/{i}": leaf for i, leaf in enumerate(leaves)}
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    manifest = {
        "format": "bayesdl",
        "schema": SCHEMA,
        "model": model_data(posterior.model),
        "engine": spec.to_data(posterior.engine),
        "frame": spec.to_data(posterior.frame),
        "info": posterior.raw.info,
        "seed": posterior.seed,
        "layout": layout,
        "draws": draws,
        "data_hash": hash_arrays(leaves),
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
    }
    from safetensors.numpy import save as to_safetensors

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", json.dumps(manifest, indent=1))
            archive.writestr("arrays.safetensors", to_safetensors(arrays))
            if draws:
                archive.writestr("posterior.nc", netcdf(posterior))
        os.replace(beside, path)
    except OSError as error:
        raise BundleError(
            f"Cannot write {path}: {error.strerror or error}. Choose a folder that exists and can be written."
        ) from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def load(path: str | Path, model: Any = None) -> Posterior:
    """Loads a saved posterior; it predicts the same numbers as the one that was saved.

    Args:
        path: of the bundle.
        model: the NumPyro function, or the spec with an Equinox network or a tinygp kernel, that was fitted: such code
            is not stored.

    Raises:
        BundleError: for a file that is not a bundle, is damaged, or is of a newer schema.
    """
    path = Path(path)
    manifest, arrays, netcdf_bytes = read(path)
    spec_model = the_model(manifest["model"], model, path)
    try:
        engine, frame = spec.from_data(manifest["engine"]), spec.from_data(manifest["frame"])
    except (spec.SpecError, TypeError, ValueError) as error:
        raise BundleError(f"{path} holds a spec that this version cannot read: {error}") from None
    leaves = [arrays[f"data/{i}"] for i in range(sum(name.startswith("data/") for name in arrays))]
    if hash_arrays(leaves) != manifest["data_hash"]:
        raise BundleError(f"{path} is damaged: its data do not match their hash. Save it again.")
    args, kwargs = unpack(leaves, manifest["layout"])
    problem = spec_model.posed(frame, args, kwargs)
    stored = {k.removeprefix("result/"): v for k, v in arrays.items() if k.startswith("result/")}
    if manifest["draws"]:
        stored |= from_netcdf(netcdf_bytes)
    with precision_of(spec_model):
        result = engine.restore(problem, stored, manifest["info"])
    return Posterior(spec_model, frame, problem, engine, result, manifest["seed"])


def read(path: Path) -> tuple[dict, dict, bytes]:
    """Manifest, arrays and netCDF bytes of a bundle, checked."""
    from safetensors.numpy import load as from_safetensors

    if not path.is_file():
        raise BundleError(f"{path} does not exist: expected a file written by post.save(...).")
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            if manifest.get("format") != "bayesdl":
                raise BundleError(f"{path} is not a bayesdl bundle: expected a file written by post.save(...).")
            if manifest["schema"] > SCHEMA:
                raise BundleError(
                    f"{path} has schema {manifest['schema']} and this bayesdl reads up to {SCHEMA}: upgrade bayesdl "
                    f"(it was written by version {manifest['versions']['bayesdl']})."
                )
            arrays = from_safetensors(archive.read("arrays.safetensors"))
            return manifest, arrays, archive.read("posterior.nc") if manifest["draws"] else b""
    except BundleError:
        raise
    except Exception as error:  # any other failure means that the file is not what it should be
        raise BundleError(
            f"{path} is truncated or not a bayesdl bundle ({type(error).__name__}: {error}): save it again."
        ) from None


def model_data(model: AbstractModel) -> Any:
    """The model as data, or a note of the code that will be asked for."""
    try:
        return spec.to_data(model)
    except spec.SpecError as error:
        name = model.function.__name__ if isinstance(model, Program) else type(model).__name__
        return {"code": name, "why": str(error)}


def the_model(data: Any, model: Any, path: Path) -> AbstractModel:
    if model is not None:
        return as_model(model)
    if "code" in data:
        raise BundleError(
            f"{path} was fitted with code that is not stored ({data['code']}): load it with "
            f"bdl.load({str(path)!r}, model=...), giving the same function or spec."
        )
    try:
        return spec.from_data(data)
    except (spec.SpecError, TypeError, ValueError) as error:
        raise BundleError(f"{path} holds a model that this version cannot read: {error}") from None


def pack(tree: Any) -> tuple[list[np.ndarray], Any]:
    """Arrays of the arguments, and their layout as JSON."""
    from jax.experimental.sparse import BCOO

    leaves: list[np.ndarray] = []

    def place(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return {"list": [place(entry) for entry in value], "tuple": isinstance(value, tuple)}
        if isinstance(value, dict):
            return {"dict": {key: place(entry) for key, entry in value.items()}}
        if isinstance(value, BCOO):
            return {"sparse": [place(np.asarray(value.data)), place(np.asarray(value.indices))], "shape": list(value.shape)}
        if isinstance(value, np.ndarray | jax.Array):
            leaves.append(np.asarray(value))
            return {"array": len(leaves) - 1}
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        raise BundleError(f"An argument of type {type(value).__name__} cannot be stored: pass arrays, numbers or strings.")

    layout = place(tree)
    return leaves, layout


def unpack(leaves: list[np.ndarray], layout: Any) -> Any:
    """The inverse of `pack`."""
    if "list" in layout:
        values = [unpack(leaves, entry) for entry in layout["list"]]
        return tuple(values) if layout["tuple"] else values
    if "dict" in layout:
        return {key: unpack(leaves, entry) for key, entry in layout["dict"].items()}
    if "sparse" in layout:
        import jax.numpy as jnp
        from jax.experimental.sparse import BCOO

        data, indices = (jnp.asarray(unpack(leaves, entry)) for entry in layout["sparse"])
        return BCOO((data, indices), shape=tuple(layout["shape"]))
    return leaves[layout["array"]] if "array" in layout else layout["value"]


def hash_arrays(leaves: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def netcdf(posterior: Posterior) -> bytes:
    """Draws and statistics as netCDF, groups named as ArviZ does."""
    buffer = io.BytesIO()
    tree = posterior.to_datatree()
    tree.filter(lambda node: node.name in (None, "posterior", "sample_stats")).to_netcdf(buffer, engine="h5netcdf")
    return buffer.getvalue()


def from_netcdf(data: bytes) -> dict[str, np.ndarray]:
    import xarray as xr

    tree = xr.open_datatree(io.BytesIO(data), engine="h5netcdf")
    groups = {"samples": "posterior", "stats": "sample_stats"}
    return {f"{prefix}/{k}": v.values for prefix, group in groups.items() for k, v in tree[group].data_vars.items()}
