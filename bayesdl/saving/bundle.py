"""Saved fits: a `.bdl` file is a zip of `manifest.json`, `arrays.safetensors` and, for draws, `posterior.nc`.

The manifest holds the schema version, the specs of model, engine and schema as data, library versions and a hash of the
training data. The training data are stored too, as processes and continued runs need them. Nothing in a bundle is code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import platform
import re
import urllib.parse
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving import serialization as spec
from inference.core.engine import AbstractEngine
from inference.core.problem import Problem, ProblemError
from inference.core.result import Draws

SCHEMA = 1
KEYS = (
    "schema",
    "model",
    "engine",
    "frame",
    "info",
    "seed",
    "layout",
    "draws",
    "data_hash",
    "versions",
)
LOADERS = {"bayesdl": "bayesdl.load", "bayesdl-recommender": "bayesdl.recommend.load"}  # by format
LIBRARIES = ("bayesdl", "jax", "numpyro", "numpy")


class BundleError(ValueError):
    """A file that is not a bundle, or one that cannot be read here."""


def save(posterior: Posterior, path: str | Path) -> Path:
    """Writes a bundle beside its final place and renames it, so that no half-written file is left.

    Raises:
        BundleError: where the path cannot be written, or the file could not hold everything.
    """
    path = Path(path)
    draws = isinstance(posterior.raw, Draws)
    in_netcdf = ("samples/", "stats/") if draws else ()
    arrays = {
        f"result/{k}": v for k, v in posterior.raw.arrays().items() if not k.startswith(in_netcdf)
    }
    leaves, layout = pack((posterior.problem.args, dict(posterior.problem.kwargs)))
    arrays |= {f"data/{i}": leaf for i, leaf in enumerate(leaves)}
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    manifest = {
        "format": "bayesdl",
        "schema": SCHEMA,
        "model": model_data(posterior.model),
        "engine": engine_data(posterior.engine),
        "frame": spec.to_data(posterior.schema),
        "info": posterior.raw.info,
        "seed": posterior.seed,
        "layout": layout,
        "draws": draws,
        "sites": sites(posterior.problem),
        "data_hash": hash_arrays(leaves),
        "versions": {name: version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
    }
    return write(path, manifest, arrays, {"posterior.nc": netcdf(posterior)} if draws else {})


def write(
    path: Path, manifest: dict, arrays: dict[str, np.ndarray], others: dict[str, bytes]
) -> Path:
    """Writes a zip of a manifest, arrays and other files, in one piece or not at all.

    Raises:
        BundleError: where the path cannot be written.
    """
    from safetensors.numpy import save as to_safetensors

    with (
        in_one_piece(path) as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("manifest.json", json.dumps(manifest, indent=1))
        archive.writestr("arrays.safetensors", to_safetensors(arrays))
        for name, content in others.items():
            archive.writestr(name, content)
    return path


@contextlib.contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """A place beside the path to write to, which becomes the file when that is done.

    Raises:
        BundleError: where the path cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise BundleError(
            f"Cannot write {path}: {error.strerror or error}. Choose a folder that exists and can be written."
        ) from None
    finally:
        with contextlib.suppress(
            OSError
        ):  # of a name that is too long, which the error above tells
            beside.unlink(missing_ok=True)


def load(path: str | Path, model: Any = None, engine: Any = None) -> Posterior:
    """Loads a saved posterior; it predicts the same numbers as the one that was saved.

    Args:
        path: of the bundle.
        model: the NumPyro function, or the spec with an Equinox network or a tinygp kernel, that was fitted: such code
            is not stored.
        engine: the engine that fitted, where it holds code: a guide or an objective of your own.

    Raises:
        BundleError: for a file that is not a bundle, is damaged, is of a newer schema, or holds the fit of another model.
    """
    path = Path(path)
    manifest, arrays, netcdf_bytes = read(path)
    spec_model = the_model(manifest["model"], model, path)
    try:
        engine, schema = (
            the_engine(manifest["engine"], engine, path),
            spec.from_data(manifest["frame"]),
        )
    except BundleError:
        raise
    except (spec.SpecError, TypeError, ValueError) as error:
        raise BundleError(f"{path} holds a spec that this version cannot read: {error}") from None
    leaves = [arrays[f"data/{i}"] for i in range(sum(name.startswith("data/") for name in arrays))]
    if hash_arrays(leaves) != manifest["data_hash"]:
        raise BundleError(f"{path} is damaged: its data do not match their hash. Save it again.")
    args, kwargs = unpack(leaves, manifest["layout"])
    problem = pose(spec_model, schema, args, kwargs, manifest, path)
    stored = {k.removeprefix("result/"): v for k, v in arrays.items() if k.startswith("result/")}
    if manifest["draws"]:
        stored |= from_netcdf(netcdf_bytes)
    try:
        with precision_scope(spec_model):
            result = engine.restore(problem, stored, manifest["info"])
    except ProblemError as error:
        raise BundleError(f"{path} does not fit the engine given: {error}") from error
    return Posterior(spec_model, schema, problem, engine, result, manifest["seed"])


def read(
    path: Path, kind: str = "bayesdl", keys: tuple[str, ...] = KEYS, by: str = "post.save(...)"
) -> tuple[dict, dict, bytes]:
    """Manifest, arrays and netCDF bytes of a bundle, checked: its kind, and that the manifest has these keys."""
    from safetensors.numpy import load as from_safetensors

    if not os.path.isfile(path):  # unlike `Path.is_file` it takes names that are too long
        raise BundleError(f"{path} does not exist: expected a file written by {by}.")
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            if manifest.get("format") != kind:
                reader = LOADERS.get(manifest.get("format"))
                cure = f"{reader} reads it" if reader else f"expected a file written by {by}"
                raise BundleError(f"{path} is not a {kind} bundle: {cure}.")
            if manifest["schema"] > SCHEMA:
                raise BundleError(
                    f"{path} has schema {manifest['schema']} and this bayesdl reads up to {SCHEMA}: upgrade bayesdl "
                    f"(it was written by version {manifest['versions']['bayesdl']})."
                )
            missing = [key for key in keys if key not in manifest]
            if missing:
                raise BundleError(
                    f"{path} is damaged: its manifest lacks {missing[0]!r}. Save it again."
                )
            arrays = from_safetensors(archive.read("arrays.safetensors"))
            return manifest, arrays, archive.read("posterior.nc") if manifest.get("draws") else b""
    except BundleError:
        raise
    except Exception as error:  # any other failure means that the file is not what it should be
        raise BundleError(
            f"{path} is truncated or not a {kind} bundle ({type(error).__name__}: {error}): save it again."
        ) from None


def model_data(model: AbstractModel) -> Any:
    """The model as data, or a note of the code that will be asked for."""
    try:
        return spec.to_data(model)
    except spec.SpecError as error:
        return {"code": model.name, "why": str(error)}


def engine_data(engine: AbstractEngine) -> Any:
    """The engine as data, or a note of the code that will be asked for."""
    try:
        return spec.to_data(engine)
    except spec.SpecError as error:
        return {"code": type(engine).__name__, "why": str(error)}


def the_engine(data: Any, engine: Any, path: Path) -> AbstractEngine:
    """The engine that fitted: the stored one, or where it holds code the given one."""
    if "code" not in data:
        return spec.from_data(data)
    if type(engine).__name__ != data["code"]:
        got = "none" if engine is None else repr(engine)
        raise BundleError(
            f"{path} was fitted with an engine that holds code ({data['code']}): load it with "
            f"bdl.load({str(path)!r}, ..., engine=...), giving the same engine; got {got}."
        )
    return engine


def the_model(data: Any, model: Any, path: Path, load: str = "bdl.load") -> AbstractModel:
    """The model that was fitted: the stored one, or where it is code the given one."""
    if "code" in data and model is not None:
        return as_model(model)
    if "code" in data:
        raise BundleError(
            f"{path} was fitted with code that is not stored ({data['code']}): load it with "
            f"{load}({str(path)!r}, model=...), giving the same function or spec."
        )
    try:
        stored = spec.from_data(data)
    except (spec.SpecError, TypeError, ValueError) as error:
        raise BundleError(f"{path} holds a model that this version cannot read: {error}") from None
    if model is not None and model_data(as_model(model)) != model_data(stored):
        raise BundleError(
            f"{path} holds the fit of {stored!r}, not of model={model!r}: leave out model, or fit that one."
        )
    return stored


def pose(
    model: AbstractModel, schema: Any, args: tuple, kwargs: dict, manifest: dict, path: Path
) -> Problem:
    """The problem with the stored data; code that was given must have the sites that were fitted."""
    if "code" not in manifest["model"]:
        return model.build_problem(schema, args, kwargs)
    cure = f"give the function or spec {manifest['model']['code']} that was fitted."
    try:
        problem = model.build_problem(schema, args, kwargs)
        found = sites(problem)
    except Exception as error:  # code that does not fit may fail in any way
        raise BundleError(
            f"The model given fails on the data in {path} ({type(error).__name__}: {error}): {cure}"
        ) from error
    stored = manifest.get("sites", found)
    for name in stored | found:
        if stored.get(name) != found.get(name):
            got, expected = (
                f"of shape {s[name]}" if name in s else "absent" for s in (found, stored)
            )
            raise BundleError(
                f"In the model given site {name!r} is {got}, and in {path} it is {expected}: {cure}"
            )
    return problem


def sites(problem: Problem) -> dict[str, list[int]]:
    """Shapes of the latent and the observed sites by name."""
    return {
        name: list(np.shape(problem.trace[name]["value"]))
        for name in (*problem.latents, *problem.observed)
    }


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
            return {
                "sparse": [place(np.asarray(value.data)), place(np.asarray(value.indices))],
                "shape": list(value.shape),
            }
        if isinstance(value, np.ndarray | jax.Array):
            leaves.append(np.asarray(value))
            return {"array": len(leaves) - 1}
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        raise BundleError(
            f"An argument of type {type(value).__name__} cannot be stored: pass arrays, numbers or strings."
        )

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
    """Draws and statistics as netCDF, groups named as ArviZ does.

    Raises:
        BundleError: where it cannot hold all sites.
    """
    assert isinstance(posterior.raw, Draws)
    buffer = io.BytesIO()
    samples = {escaped(name): values for name, values in posterior.raw.samples.items()}
    tree = dataclasses.replace(
        posterior, raw=dataclasses.replace(posterior.raw, samples=samples)
    ).to_datatree()
    lost = [
        urllib.parse.unquote(name) for name in samples if name not in tree["posterior"].data_vars
    ]
    if lost:
        raise BundleError(
            f"The draws of site {lost[0]!r} cannot be stored under this name: rename the site."
        )
    tree.filter(lambda node: node.name in (None, "posterior", "sample_stats")).to_netcdf(
        buffer, engine="h5netcdf"
    )
    return buffer.getvalue()


def from_netcdf(data: bytes) -> dict[str, np.ndarray]:
    import xarray as xr

    tree = xr.open_datatree(io.BytesIO(data), engine="h5netcdf")
    samples = {
        f"samples/{urllib.parse.unquote(str(k))}": v.values
        for k, v in tree["posterior"].data_vars.items()
    }
    return samples | {f"stats/{k}": v.values for k, v in tree["sample_stats"].data_vars.items()}


def escaped(site: str) -> str:
    """The name of a site as netCDF can hold it, by URL's escapes: no slash, and not the name of an axis."""
    name = site.replace("%", "%25").replace("/", "%2F")
    if not re.fullmatch(r"chain|draw|.*_dim_\d+", name):
        return name
    return "".join(f"%{byte:02X}" for byte in name[0].encode()) + name[1:]
