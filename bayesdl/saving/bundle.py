"""Loading bundles: a saved posterior predicts the same numbers as the one that was saved.

The manifest holds the specs of model, engine and schema as data, and a hash of the training data,
which are stored too, as processes and continued runs need them. Nothing in a bundle is code. That a
file is whole and of a version that is known here is checked by `bayesdl.saving.archive.read`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import jax

from bayesdl.calibration.saving import restore
from bayesdl.data.validation import DataError, ModelError
from bayesdl.model.base import AbstractModel
from bayesdl.model.names import Names
from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving import serialization as spec
from bayesdl.saving.archive import BundleError, hash_arrays, read, restoring, unpack
from bayesdl.saving.identity import check_draws, check_program
from bayesdl.saving.integrity import SigningKey, check_scales
from bayesdl.saving.writing import code_in, model_data, sites
from bayesdl.typing import Schema
from inference.core.engine import AbstractEngine
from inference.core.problem import Problem, ProblemError
from inference.core.typing import Arguments, Info, Program, StoredArrays


def load(
    path: str | Path,
    model: AbstractModel | Program | None = None,
    engine: AbstractEngine | None = None,
    predictor: object = None,
    key: SigningKey = None,
) -> Posterior:
    """Load a saved posterior; it predicts the same numbers as the one that was saved.

    Args:
        path: the path of the bundle.
        model: the NumPyro function, or the spec with an Equinox network or a tinygp kernel, that
            was fitted: such code is not stored.
        engine: the engine that was used, where it holds code: a guide or an objective of your own.
        predictor: the predictor of `bdl.Frozen`, which is not stored; another one is refused.
        key: the secret that the file was signed with (`post.save(path, key=...)`); a file that is
            not signed with it is refused.

    Raises:
        BundleError: for a file that is not a bundle, is damaged, is of a newer schema, or holds
            the fit of another model.
    """
    path = Path(path)
    if model is not None:
        as_model(model)  # what is wrong with it is not the file's fault
    manifest, arrays, netcdf_bytes = read(path, key=key)
    with restoring(path):
        return _restore(path, manifest, arrays, netcdf_bytes, model, engine, predictor)


def _restore(
    path: Path,
    manifest: Info,
    arrays: StoredArrays,
    netcdf_bytes: bytes,
    model: AbstractModel | Program | None,
    engine: AbstractEngine | None,
    predictor: object,
) -> Posterior:
    """Return the posterior of what a file holds, and of the code that was given."""
    spec_model = resolve_model(manifest["model"], model, path)
    try:
        engine = _resolve_engine(manifest["engine"], engine, path)
        schema = spec.from_data(manifest["frame"])
        check_scales(schema)
    except BundleError:
        raise
    except (spec.SpecError, TypeError, ValueError) as error:
        raise BundleError(f"{path} holds a spec that this version cannot read: {error}") from None
    try:
        spec_model = spec_model.with_code(_predictor(model, predictor), schema)
    except (ModelError, DataError) as error:
        raise BundleError(f"{path}: {error}") from None
    leaves = [arrays[f"data/{i}"] for i in range(sum(name.startswith("data/") for name in arrays))]
    if hash_arrays(leaves) != manifest["data_hash"]:
        raise BundleError(f"{path} is damaged: its data do not match their hash. Save it again.")
    args, kwargs = unpack(leaves, manifest["layout"])
    # JAX remembers arrays in the precision in which it saw them first
    with precision_scope(spec_model):
        problem = engine.pose(_pose(spec_model, schema, args, kwargs, manifest, arrays, path))
    stored = {k.removeprefix("result/"): v for k, v in arrays.items() if k.startswith("result/")}
    if manifest["draws"]:
        stored |= _from_netcdf(netcdf_bytes)
    try:
        with precision_scope(spec_model):
            result = engine.restore(problem, stored, manifest["info"])
    except ProblemError as error:
        raise BundleError(f"{path} does not fit the engine given: {error}") from error
    names = Names.from_data(manifest.get("names", {}))
    posterior = Posterior(spec_model, schema, problem, engine, result, manifest["seed"], names)
    if manifest.get("integrity") is None:
        _check_shapes(posterior, path)
    check_draws(posterior, manifest, arrays, path)
    return _adjusted(posterior, manifest, arrays, path)


def _check_shapes(posterior: Posterior, path: Path) -> None:
    """Refuse parameters of an approximation that do not fit the model, in a file without hashes.

    Raises:
        BundleError: naming the site.
    """
    with contextlib.suppress(jax.errors.JAXTypeError), precision_scope(posterior.model):
        drawn = jax.eval_shape(lambda key: posterior.raw.sample(key, 2), jax.random.key(0))
        for name, shape in posterior.problem.latents.items():
            if name in drawn and drawn[name].shape != (2, *shape):
                raise BundleError(
                    f"{path} is damaged: draws of site {name!r} have shape "
                    f"{drawn[name].shape[1:]}, expected {shape}. Save it again."
                )


def _predictor(model: object, predictor: object) -> object:
    """Return the predictor that was given, by itself or in a model."""
    return getattr(model, "predictor", None) if predictor is None else predictor


def _adjusted(posterior: Posterior, manifest: Info, arrays: StoredArrays, path: Path) -> Posterior:
    """Return the posterior with what was done to its predictions.

    Raises:
        BundleError: for an adjustment that this version does not know.
    """
    if "adjustment" not in manifest:
        return posterior
    name, layout = manifest["adjustment"]["name"], manifest["adjustment"]["layout"]
    count = sum(key.startswith("adjustment/") for key in arrays)
    stored = unpack([arrays[f"adjustment/{i}"] for i in range(count)], layout)
    try:
        made = restore(posterior, name, stored)
    except KeyError as error:
        raise BundleError(
            f"{path} holds an adjustment of predictions that this version cannot read ({name}, "
            f"{error}): upgrade bayesdl."
        ) from None
    return dataclasses.replace(posterior, adjustment=made)


def _resolve_engine(data: Info, engine: AbstractEngine | None, path: Path) -> AbstractEngine:
    """Return the engine of a fit: the stored one, or where it holds code the given one.

    Raises:
        BundleError: where another engine was given, or none.
    """
    if "code" not in data:
        return spec.from_data(data)
    if engine is None or type(engine).__name__ != data["code"]:
        got = "none" if engine is None else repr(engine)
        raise BundleError(
            f"{path} was fitted with an engine that holds code ({data['code']}): load it with "
            f"bdl.load({str(path)!r}, ..., engine=...), giving the same engine; got {got}."
        )
    return engine


def resolve_model(
    data: Info,
    model: AbstractModel | Program | None,
    path: Path,
    load: str = "bdl.load",
) -> AbstractModel:
    """Return the model of a fit: the stored one, or where it is code the given one.

    Args:
        data: the model as data, from the manifest.
        model: the model that the user gave, or None.
        path: the path of the file, for errors.
        load: the function that reads such files, for errors.

    Raises:
        BundleError: where another model was given, or none where it is code.
    """
    if "code" in data and model is not None:
        given = as_model(model)
        return given.in_double() if data.get("double", given.double_precision) else given
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
            f"{path} holds the fit of {stored!r}, not of model={model!r}: leave out model, or fit "
            "that one."
        )
    return stored


def _pose(
    model: AbstractModel,
    schema: Schema,
    args: Arguments,
    kwargs: dict,
    manifest: Info,
    arrays: StoredArrays,
    path: Path,
) -> Problem:
    """Return the problem with the stored data.

    Raises:
        BundleError: where code that was given has not the sites that were fitted, or another log
            density.
    """
    if "code" not in manifest["model"]:
        return model.build_problem(schema, args, kwargs)
    cure = f"give the function or spec {manifest['model']['code']} that was fitted."
    try:
        problem = model.build_problem(schema, args, kwargs)
        found = sites(problem)
    # code that does not fit may fail in any way
    except Exception as error:
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
    with precision_scope(model):
        check_program(model, problem, manifest.get("identity", {}), arrays, path, cure)
    return problem


def _from_netcdf(data: bytes) -> StoredArrays:
    """Read draws and statistics from netCDF."""
    import xarray as xr

    tree = xr.open_datatree(io.BytesIO(data), engine="h5netcdf")
    samples = {
        f"samples/{urllib.parse.unquote(str(k))}": v.values
        for k, v in tree["posterior"].data_vars.items()
    }
    return samples | {f"stats/{k}": v.values for k, v in tree["sample_stats"].data_vars.items()}


def from_bytes(content: bytes) -> Posterior:
    """Return the posterior of a bundle's content, as processes send it to each other."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.bdl"
        path.write_bytes(content)
        return load(path)


def reduced(posterior: Posterior) -> tuple[Callable[[bytes], Posterior], tuple[bytes]]:
    """Return how another process of this machine makes a posterior: from its bundle, without code.

    Raises:
        TypeError: where it holds code, which a bundle does not hold.
    """
    code = code_in(posterior)
    if code is not None:
        raise TypeError(
            f"A posterior of {code} is not sent to another process, as it holds code: save it by "
            "post.save(path), and open it there by bdl.load(path, ...), giving the code."
        )
    with tempfile.TemporaryDirectory() as folder:
        return from_bytes, (posterior.save(Path(folder) / "fit.bdl").read_bytes(),)
