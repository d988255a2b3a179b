"""Writing posteriors: model, engine, schema, data and result into one bundle."""

from __future__ import annotations

import io
import platform
import re
import urllib.parse
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bayesdl.interop.arviz import tree_of
from bayesdl.model.base import AbstractModel
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.saving import serialization as spec
from bayesdl.saving.archive import (
    ADJUSTED_SCHEMA,
    LIBRARIES,
    SCHEMA,
    BundleError,
    hash_arrays,
    pack,
    write,
)
from bayesdl.saving.identity import identity
from bayesdl.saving.integrity import SigningKey
from inference.core.engine import AbstractEngine
from inference.core.problem import Problem
from inference.core.typing import Info

# arrays of a result that are kept as netCDF, by the beginning of their names
IN_NETCDF = ("samples/", "stats/")


def save(posterior: AbstractPosterior, path: str | Path, key: SigningKey = None) -> Path:
    """Write a posterior to a bundle.

    Args:
        posterior: the posterior.
        path: the path of the file.
        key: a secret to sign the file with, which `load(path, key=...)` then asks for.

    Returns:
        The path.

    Raises:
        BundleError: where the path cannot be written, or the file could not hold everything.
    """
    path = Path(path)
    draws = bool(posterior.raw.groups())
    in_netcdf = IN_NETCDF if draws else ()
    arrays = {
        f"result/{k}": v for k, v in posterior.raw.arrays().items() if not k.startswith(in_netcdf)
    }
    leaves, layout = pack((posterior.problem.args, dict(posterior.problem.kwargs)))
    arrays |= {f"data/{i}": leaf for i, leaf in enumerate(leaves)}
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    adjusted: Info = {}
    if posterior.adjustment is not None:
        parts, parts_layout = pack(posterior.adjustment.stored())
        arrays |= {f"adjustment/{i}": np.asarray(leaf, order="C") for i, leaf in enumerate(parts)}
        adjusted = {"adjustment": {"name": posterior.adjustment.name, "layout": parts_layout}}
    model, engine = model_data(posterior.model), _engine_data(posterior.engine)
    known: Info = {}
    if "code" in model or "code" in engine:
        known, points = identity(posterior)
        arrays |= points
    manifest = {
        "format": "bayesdl",
        "schema": ADJUSTED_SCHEMA if adjusted else SCHEMA,
        "model": model,
        "engine": engine,
        "frame": spec.to_data(posterior.schema),
        "info": posterior.raw.info,
        "seed": posterior.seed,
        "layout": layout,
        "draws": draws,
        "sites": sites(posterior.problem),
        "identity": known,
        "names": posterior.names.to_data(),
        "data_hash": hash_arrays(leaves),
        "versions": {name: version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
    } | adjusted
    others = {"posterior.nc": _netcdf(posterior)} if draws else {}
    return write(path, manifest, arrays, others, key)


def model_data(model: AbstractModel) -> Info:
    """Return the model as data, or a note of the code that will be asked for."""
    try:
        return spec.to_data(model.without_code())
    except spec.SpecError as error:
        return {"code": model.name, "why": str(error), "double": model.double_precision}


def _engine_data(engine: AbstractEngine) -> Info:
    """Return the engine as data, or a note of the code that will be asked for."""
    try:
        return spec.to_data(engine)
    except spec.SpecError as error:
        return {"code": type(engine).__name__, "why": str(error)}


def code_in(posterior: AbstractPosterior) -> str | None:
    """Return the name of the code that a bundle of a posterior would not hold, or None."""
    for data in (model_data(posterior.model), _engine_data(posterior.engine)):
        if isinstance(data, dict) and "code" in data:
            return str(data["code"])
    return None


def sites(problem: Problem) -> dict[str, list[int]]:
    """Return the shapes of the latent and the observed sites by name."""
    return {
        name: list(np.shape(problem.trace[name]["value"]))
        for name in (*problem.unobserved, *problem.observed)
    }


def _netcdf(posterior: AbstractPosterior) -> bytes:
    """Return draws and statistics as netCDF, with groups named as ArviZ does.

    Raises:
        BundleError: where it cannot hold all sites.
    """
    buffer = io.BytesIO()
    groups = posterior.raw.groups()
    samples = {_escape(name): values for name, values in groups["posterior"].items()}
    tree = tree_of(groups | {"posterior": samples})
    lost = [
        urllib.parse.unquote(name) for name in samples if name not in tree["posterior"].data_vars
    ]
    if lost:
        raise BundleError(
            f"The draws of site {lost[0]!r} cannot be stored under this name: rename the site."
        )
    tree.to_netcdf(buffer, engine="h5netcdf")
    return buffer.getvalue()


def _escape(site: str) -> str:
    """Return the name of a site as netCDF can hold it, by URL's escapes.

    It has no slash, and is not the name of an axis.
    """
    name = site.replace("%", "%25").replace("/", "%2F")
    if not re.fullmatch(r"chain|draw|.*_dim_\d+", name):
        return name
    return "".join(f"%{byte:02X}" for byte in name[0].encode()) + name[1:]
