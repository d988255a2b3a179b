"""Recommenders as files: a zip of `manifest.json` and `arrays.safetensors`, without code.

A blend holds its members. That a file is whole and of a version that is known here is checked by
`bayesdl.saving.archive.read`.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bayesdl.recommend.estimator import RECOMMENDERS, AbstractEstimator, NotFittedError
from bayesdl.saving import serialization as spec
from bayesdl.saving.archive import LIBRARIES, SCHEMA, BundleError, read, restoring, write
from bayesdl.saving.integrity import SigningKey, refuse_bad_numbers
from bayesdl.typing import StoredArrays

KIND = "bayesdl-recommender"
KEYS = ("schema", "recommender", "versions")
# The kinds of NumPy arrays that labels of items come in, and the types of their values.
LABELS = {"i": (int,), "u": (int,), "U": (str,), "O": (int, str)}


def write_recommender(model: AbstractEstimator, path: str | Path, key: SigningKey = None) -> Path:
    """Write a fitted recommender to a file; see `AbstractRecommender.save`."""
    arrays: StoredArrays = {}
    manifest = {
        "format": KIND,
        "schema": SCHEMA,
        "recommender": _describe(model, "", arrays),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return write(Path(path), manifest, arrays, {}, key)


def read_recommender(path: str | Path, key: SigningKey = None) -> AbstractEstimator:
    """Read a recommender from a file; see `bayesdl.recommend.load`."""
    path = Path(path)
    manifest, arrays, _ = read(path, KIND, KEYS, "model.save(...) of a recommender", key)
    refuse_bad_numbers(path, arrays)
    with restoring(path):
        return _restore(manifest["recommender"], "", arrays, path)


def _describe(model: AbstractEstimator, prefix: str, arrays: StoredArrays) -> dict[str, Any]:
    """Return a recommender as JSON data, and add its arrays to those given.

    Args:
        model: the fitted recommender.
        prefix: the beginning of the names of its arrays.
        arrays: the dictionary to which its arrays are added.

    Raises:
        NotFittedError: before its fit.
        BundleError: where it holds something that is not data.
    """
    name = type(model).__name__
    if RECOMMENDERS.get(name) is not type(model):
        known = ", ".join(RECOMMENDERS)
        raise BundleError(f"{name} cannot be stored in a file: only {known} can.")
    if not model.fitted:
        raise NotFittedError(f"{name} is not fitted: call fit(train) before save.")
    for key, value in model.arrays().items():
        arrays[f"{prefix}{key}"] = np.ascontiguousarray(value)
    data = {
        "class": name,
        "settings": _settings_data(model),
        "items": _labels_data(model.items_),
        "temperature": model.temperature_,
        "facts": {fact: _fact_data(getattr(model, fact)) for fact in model.facts},
    }
    members = model.stored_members()
    if members:
        data["members"] = [
            _describe(member, f"{prefix}member{i}/", arrays) for i, member in enumerate(members)
        ]
    return data


def _restore(
    data: dict[str, Any], prefix: str, arrays: StoredArrays, path: Path
) -> AbstractEstimator:
    """Return the recommender that `describe` has described.

    Args:
        data: the JSON data.
        prefix: the beginning of the names of its arrays.
        arrays: all arrays of the file.
        path: the path of the file, for errors.

    Raises:
        BundleError: where arrays are missing or have other shapes.
    """
    if data["class"] not in RECOMMENDERS:
        raise BundleError(
            f"{path} holds a {data['class']!r}, which this version does not know: expected "
            f"{', '.join(RECOMMENDERS)}."
        )
    cls = RECOMMENDERS[data["class"]]
    settings = {name: spec.from_data(value) for name, value in data["settings"].items()}
    if "members" in data:
        settings["members"] = [
            _restore(member, f"{prefix}member{i}/", arrays, path)
            for i, member in enumerate(data["members"])
        ]
    model = cls(**settings)
    model.check()
    items = _labels_from_data(data["items"])
    model.items_, model.num_items_ = items, len(items)
    model.temperature_ = float(data["temperature"])
    for fact in cls.facts:
        setattr(model, fact, _fact_from_data(fact, data["facts"][fact]))
    own = {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    _load_arrays(model, own, path)
    return model


def _settings_data(model: AbstractEstimator) -> dict[str, Any]:
    """Return the settings of a recommender as JSON data.

    A function for beta is stored as the number that was used, with a warning.
    """
    found = {}
    for name, value in model.get_params().items():
        if name == "members":
            continue
        try:
            found[name] = spec.to_data(value)
        except spec.SpecError:
            if name != "beta":
                raise
            used = getattr(model, "beta_")  # noqa: B009 - the classes with a beta have it
            warnings.warn(
                f"beta is a function, which a file cannot hold: stored is beta={used:g}, that of "
                "the fit.",
                stacklevel=5,
            )
            found["beta"] = used
    return found


def _labels_data(labels: np.ndarray) -> dict[str, Any]:
    """Return labels of items as JSON data.

    Raises:
        BundleError: for labels that are neither whole numbers nor text.
    """
    values, kinds = labels.tolist(), LABELS.get(labels.dtype.kind, ())
    other = next((value for value in values if type(value) not in kinds), None)
    if other is not None:
        raise BundleError(
            f"items holds the label {other!r}: a file holds whole numbers or text; fit with such "
            "labels."
        )
    return {"type": labels.dtype.str, "labels": values}


def _labels_from_data(data: dict[str, Any]) -> np.ndarray:
    """Return the labels that `_labels_data` made JSON data of.

    Raises:
        ValueError: for a type that is not that of the labels.
    """
    kind, labels = np.dtype(data["type"]), data["labels"]
    longest = max((len(str(label)) for label in labels), default=0)
    if kind.kind not in LABELS or kind.itemsize > max(8, 4 * longest):
        raise ValueError(f"labels of type {data['type']!r} and at most {longest} characters")
    return np.array(labels, kind)


def _fact_data(value: object) -> object:
    """Return a fact of a fit as JSON data; lists, such as the history, stay as they are."""
    return value if isinstance(value, list) else spec.to_data(value)


def _fact_from_data(name: str, data: object) -> object:
    """Return the fact that `_fact_data` made JSON data of."""
    return data if name == "history_" else spec.from_data(data)


def _load_arrays(model: AbstractEstimator, arrays: StoredArrays, path: Path) -> None:
    """Give a recommender the arrays that its fit found.

    Raises:
        BundleError: where an array is missing or has another shape.
    """
    for name, shape in model.array_shapes(arrays).items():
        if name not in arrays or arrays[name].shape != shape:
            got = f"shape {arrays[name].shape}" if name in arrays else "no array"
            raise BundleError(
                f"{path} is damaged: array {name} has {got}, expected {shape}. Save it again."
            )
    model.set_arrays(arrays)
