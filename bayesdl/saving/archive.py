"""The format of bundles: a zip of `manifest.json`, `arrays.safetensors` and, for draws, netCDF.

Nothing in such a file is code: no pickle is written or read. Arrays are hashed, and a file is
written beside its final place and renamed, so that no half-written file is left.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesdl.data.arguments import Columns
from bayesdl.saving.errors import BundleError
from bayesdl.saving.frames import place_frame, restore_frame
from bayesdl.saving.integrity import (
    SigningKey,
    check_members,
    check_seal,
    compression_of,
    refuse_bad_numbers,
    sealed,
)
from inference.arguments import TableArray, host_array, is_frame, table_array
from inference.core.typing import Info, PyTree, StoredArrays
from inference.process.writing import whole_file, why_not_written

SCHEMA = 1
# that of adjusted predictions, which earlier versions would not see
ADJUSTED_SCHEMA = 2
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
# the function that reads a bundle, by its format
LOADERS = {"bayesdl": "bayesdl.load", "bayesdl-recommender": "bayesdl.recommend.load"}
# the arrays that are parameters of a fit, by the beginning of their names
PARAMETERS = ("result/params/", "network/")
LIBRARIES = ("bayesdl", "jax", "numpyro", "numpy")


def write(
    path: Path,
    manifest: Info,
    arrays: StoredArrays,
    others: Mapping[str, bytes],
    key: SigningKey = None,
) -> Path:
    """Write a zip of a manifest, arrays and other files, in one piece or not at all.

    Args:
        path: the path of the file.
        manifest: the manifest, to which the hashes of all parts are added.
        arrays: the arrays by name.
        others: the other parts by name.
        key: a secret to sign the file with.

    Raises:
        BundleError: where the path cannot be written.
    """
    from safetensors.numpy import save as to_safetensors

    parts = {"arrays.safetensors": to_safetensors(arrays), **others}
    text = json.dumps(sealed(manifest, parts, key), indent=1).encode()
    with in_one_piece(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name, content in {"manifest.json": text, **parts}.items():
            archive.writestr(name, content, compression_of(content))
    return path


@contextlib.contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """Give a place beside the path to write to, which becomes the file when that is done.

    Raises:
        BundleError: where the path cannot be written.
    """
    try:
        with whole_file(path) as beside:
            yield beside
    except OSError as error:
        raise BundleError(f"Cannot write {path}: {why_not_written(error)}.") from None


def read(
    path: Path,
    kind: str = "bayesdl",
    keys: tuple[str, ...] = KEYS,
    by: str = "post.save(...)",
    key: SigningKey = None,
) -> tuple[Info, StoredArrays, bytes]:
    """Read manifest, arrays and netCDF bytes of a bundle, and check them.

    Args:
        path: the path of the bundle.
        kind: the format that it must have.
        keys: the keys that its manifest must have.
        by: the call that writes such bundles, for errors.
        key: the secret that the file must be signed with; None takes any file.

    Raises:
        BundleError: for a file that is missing, damaged, of another kind or of a newer schema.
    """
    from safetensors.numpy import load as from_safetensors

    # unlike `Path.is_file` this takes names that are too long
    if not os.path.isfile(path):
        raise BundleError(f"{path} does not exist: expected a file written by {by}.")
    if not _may_be_archive(path):
        raise BundleError(
            f"{path} is truncated or not a {kind} bundle: expected a file written by {by}."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(path, archive)
            manifest = json.loads(archive.read("manifest.json"))
            if manifest.get("format") != kind:
                reader = LOADERS.get(manifest.get("format"))
                cure = f"{reader} reads it" if reader else f"expected a file written by {by}"
                raise BundleError(f"{path} is not a {kind} bundle: {cure}.")
            schema = manifest["schema"]
            if type(schema) is not int or not schema >= SCHEMA:
                raise BundleError(
                    f"{path} has schema {schema!r}, which no version of bayesdl has written."
                )
            if schema > ADJUSTED_SCHEMA:
                raise BundleError(
                    f"{path} has schema {manifest['schema']} and this bayesdl reads up to "
                    f"{ADJUSTED_SCHEMA}: upgrade bayesdl (it was written by version "
                    f"{manifest['versions']['bayesdl']})."
                )
            missing = [key for key in keys if key not in manifest]
            if missing:
                raise BundleError(
                    f"{path} is damaged: its manifest lacks {missing[0]!r}. Save it again."
                )
            parts = {
                name: archive.read(name) for name in archive.namelist() if name != "manifest.json"
            }
            check_seal(path, manifest, parts, key)
            arrays = from_safetensors(parts.pop("arrays.safetensors"))
            refuse_bad_numbers(path, arrays, PARAMETERS)
            return manifest, arrays, parts["posterior.nc"] if manifest.get("draws") else b""
    except BundleError:
        raise
    # any other failure means that the file is not what it should be
    except Exception as error:
        raise BundleError(
            f"{path} is truncated or not a {kind} bundle ({type(error).__name__}: {error}): save "
            "it again."
        ) from None


@contextlib.contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Say in words that what a file holds does not fit together, however that shows.

    Raises:
        BundleError: for any error but those of code and libraries of the user.
    """
    try:
        yield
    except (BundleError, ImportError, Warning):
        raise
    except Exception as error:
        raise BundleError(
            f"{path} is damaged, or holds what this version cannot read ({type(error).__name__}: "
            f"{error}). Save it again."
        ) from error


def _may_be_archive(path: Path) -> bool:
    """Return whether a file begins as a zip does."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def pack(tree: PyTree) -> tuple[list[np.ndarray], Info]:
    """Split arguments into arrays, and their layout as JSON data.

    Raises:
        BundleError: for an argument that is neither array, number nor text.
    """
    from jax.experimental.sparse import BCOO

    leaves: list[np.ndarray] = []

    def place(value: object) -> Info:
        if is_frame(value):
            return {"frame": place_frame(value, place)}
        if isinstance(value, TableArray | Columns):
            columns = value.parts if isinstance(value, TableArray) else value
            kind = {"left out": list(value.others)} if isinstance(value, Columns) else {}
            return {"table": {name: place(part) for name, part in columns.items()}, **kind}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return _place_named(value, [place(entry) for entry in value])
        if isinstance(value, tuple | list):
            return {"list": [place(entry) for entry in value], "tuple": isinstance(value, tuple)}
        if isinstance(value, dict):
            return _place_dictionary({key: place(entry) for key, entry in value.items()})
        if isinstance(value, BCOO):
            return {
                "sparse": [place(np.asarray(value.data)), place(np.asarray(value.indices))],
                "shape": list(value.shape),
            }
        if isinstance(value, np.ndarray) and value.dtype.kind in "mM":
            leaves.append(np.asarray(value).view(np.int64))
            return {"dates": len(leaves) - 1, "unit": value.dtype.str}
        if isinstance(value, complex | np.generic | np.ndarray | jax.Array) and np.iscomplexobj(
            value
        ):
            # pairs of real numbers, as the format has not all kinds of complex ones
            array = np.asarray(value)
            leaves.append(np.stack([np.real(array), np.imag(array)], axis=-1))
            return {"complex": len(leaves) - 1, "array": isinstance(value, np.ndarray | jax.Array)}
        if isinstance(value, np.ndarray | jax.Array):
            leaves.append(np.asarray(value))
            return {"array": len(leaves) - 1}
        if isinstance(value, np.generic):
            leaves.append(np.asarray(value))
            return {"scalar": len(leaves) - 1}
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        raise BundleError(
            f"An argument of type {type(value).__name__} cannot be stored: pass arrays, numbers or "
            "strings, or tuples, lists and dictionaries of these."
        )

    layout = place(tree)
    return leaves, layout


def _place_dictionary(entries: Mapping[Any, Info]) -> Info:
    """Return the layout of a dictionary, whose keys may be numbers too."""
    if all(isinstance(key, str) for key in entries):
        return {"dict": dict(entries)}
    wrong = [key for key in entries if not isinstance(key, str | int | float)]
    if wrong:
        raise BundleError(
            f"An argument is a dictionary with the key {wrong[0]!r}, which cannot be stored: use "
            "text or numbers as keys."
        )
    return {"items": [{"key": key, "value": value} for key, value in entries.items()]}


def _place_named(value: tuple[Any, ...], entries: list[Info]) -> Info:
    """Return the layout of a named tuple: the names, and where its class is."""
    where = [type(value).__module__, type(value).__qualname__]
    fields = list(getattr(value, "_fields", ()))
    return {"named tuple": where, "fields": fields, "entries": entries}


def _named_tuple(layout: Info) -> Callable[..., Any]:
    """Return the class of a named tuple if it is there already, otherwise one with its fields.

    Nothing is imported, and no class of another kind is found.
    """
    module, name = layout["named tuple"]
    found: Any = getattr(sys.modules.get(module), name, None)
    is_named = isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")
    if is_named and list(getattr(found, "_fields", ())) == layout["fields"]:
        return found
    return collections.namedtuple(name.rpartition(".")[2], layout["fields"])


def unpack(leaves: list[np.ndarray], layout: Info) -> Any:
    """Put together what `pack` split."""
    if "frame" in layout:
        return restore_frame(layout["frame"], lambda place: unpack(leaves, place))
    if "table" in layout:
        columns = {name: unpack(leaves, entry) for name, entry in layout["table"].items()}
        others = layout.get("left out")
        if others is None:
            return table_array(columns)
        return Columns({name: host_array(part) for name, part in columns.items()}, tuple(others))
    if "named tuple" in layout:
        return _named_tuple(layout)(*(unpack(leaves, entry) for entry in layout["entries"]))
    if "items" in layout:
        return {entry["key"]: unpack(leaves, entry["value"]) for entry in layout["items"]}
    if "dates" in layout:
        return leaves[layout["dates"]].view(layout["unit"])
    if "complex" in layout:
        parts = leaves[layout["complex"]]
        array = parts.view(f"c{2 * parts.dtype.itemsize}")[..., 0]
        return array if layout["array"] else array[()]
    if "scalar" in layout:
        return leaves[layout["scalar"]][()]
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


def hash_arrays(leaves: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of arrays: of their types, shapes and values."""
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
