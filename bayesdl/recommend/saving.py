"""Saved recommenders: a zip of `manifest.json` and `arrays.safetensors`, no code; a blend holds its members."""

from __future__ import annotations

import dataclasses
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bayesdl.recommend.autoencoder.spec import MultDAE, MultVAE
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.blend import Blend
from bayesdl.recommend.ease import EASE
from bayesdl.recommend.estimator import NotFittedError
from bayesdl.recommend.popularity import Popularity
from bayesdl.saving import serialization as spec
from bayesdl.saving.bundle import LIBRARIES, SCHEMA, BundleError, read, write

KIND = "bayesdl-recommender"
KEYS = ("schema", "recommender", "versions")
CLASSES = {cls.__name__: cls for cls in (EASE, Blend, MultDAE, MultVAE, Popularity)}
LABELS = {
    "i": (int,),
    "u": (int,),
    "U": (str,),
    "O": (int, str),
}  # kinds of arrays that labels come in, and what each label is


def save(model: AbstractRecommender, path: str | Path) -> Path:
    """See `AbstractRecommender.save`."""
    arrays: dict[str, np.ndarray] = {}
    manifest = {
        "format": KIND,
        "schema": SCHEMA,
        "recommender": described(model, "", arrays),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return write(Path(path), manifest, arrays, {})


def load(path: str | Path) -> AbstractRecommender:
    """Loads a saved recommender; it recommends the same as the one that was saved, to the bit.

    Args:
        path: of a file written by `model.save(path)`.

    Raises:
        BundleError: for a file that is not such a bundle, is damaged, or is of a newer schema.
    """
    path = Path(path)
    manifest, arrays, _ = read(path, KIND, KEYS, "model.save(...) of a recommender")
    try:
        return restored(manifest["recommender"], "", arrays, path)
    except BundleError:
        raise
    except (spec.SpecError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(
            f"{path} holds a recommender that this version cannot read: {type(error).__name__}: {error}"
        ) from None


def described(
    model: AbstractRecommender, prefix: str, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    """A recommender as JSON data; its arrays are put among those given, with a prefix.

    Raises:
        NotFittedError: before its fit.
        BundleError: where it holds something that is not data.
    """
    name = type(model).__name__
    if CLASSES.get(name) is not type(model):
        raise BundleError(f"{name} cannot be stored in a file: only {', '.join(CLASSES)} can.")
    if not model.fitted:
        raise NotFittedError(f"{name} is not fitted: call fit(train) before save.")
    arrays |= {
        f"{prefix}{key}": np.ascontiguousarray(value) for key, value in model.arrays().items()
    }
    data = {
        "class": name,
        "settings": settings_of(model),
        "items": labels_data(model.items_),
        "temperature": model.temperature_,
        "facts": {fact: fact_data(getattr(model, fact)) for fact in model.facts},
    }
    if isinstance(model, Blend):
        data["members"] = [
            described(member, f"{prefix}member{i}/", arrays)
            for i, member in enumerate(model.members_)
        ]
    return data


def restored(
    data: dict[str, Any], prefix: str, arrays: dict[str, np.ndarray], path: Path
) -> AbstractRecommender:
    """The inverse of `described`.

    Raises:
        BundleError: where arrays are missing or have other shapes.
    """
    if data["class"] not in CLASSES:
        raise BundleError(
            f"{path} holds a {data['class']!r}, which this version does not know: expected {', '.join(CLASSES)}."
        )
    cls = CLASSES[data["class"]]
    settings = {name: spec.from_data(value) for name, value in data["settings"].items()}
    if cls is Blend:
        settings["members"] = [
            restored(member, f"{prefix}member{i}/", arrays, path)
            for i, member in enumerate(data["members"])
        ]
    model = cls(**settings)
    model.check()
    items = np.array(data["items"]["labels"], np.dtype(data["items"]["type"]))
    model.items_, model.num_items_, model.temperature_ = (
        items,
        len(items),
        float(data["temperature"]),
    )
    for fact in cls.facts:
        setattr(model, fact, fact_of(fact, data["facts"][fact]))
    own = {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    place(model, own, path)
    return model


def settings_of(model: Any) -> dict[str, Any]:
    """The settings of a recommender as data; a function for beta as the number that was used."""
    found = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if not field.init or field.name == "members":
            continue
        try:
            found[field.name] = spec.to_data(value)
        except spec.SpecError:
            if field.name != "beta":
                raise
            warnings.warn(
                f"beta is a function, which a file cannot hold: stored is beta={model.beta_:g}, that of the fit.",
                stacklevel=5,
            )
            found["beta"] = model.beta_
    return found


def labels_data(labels: np.ndarray) -> dict[str, Any]:
    """Labels of items as JSON data.

    Raises:
        BundleError: for labels that are neither whole numbers nor text.
    """
    values, kinds = labels.tolist(), LABELS.get(labels.dtype.kind, ())
    other = next((value for value in values if type(value) not in kinds), None)
    if other is not None:
        raise BundleError(
            f"items holds the label {other!r}: a file holds whole numbers or text; fit with such labels."
        )
    return {"type": labels.dtype.str, "labels": values}


def fact_data(value: Any) -> Any:
    """What a fit found, as JSON data; dictionaries, such as those of each epoch, stay as they are."""
    return value if isinstance(value, list) else spec.to_data(value)


def fact_of(name: str, data: Any) -> Any:
    return data if name == "history_" else spec.from_data(data)


def place(model: AbstractRecommender, arrays: dict[str, np.ndarray], path: Path) -> None:
    """Gives a recommender the arrays that its fit found.

    Raises:
        BundleError: where an array is missing or has another shape.
    """
    for name, shape in model.shapes(arrays).items():
        if name not in arrays or arrays[name].shape != shape:
            got = f"shape {arrays[name].shape}" if name in arrays else "no array"
            raise BundleError(
                f"{path} is damaged: array {name} has {got}, expected {shape}. Save it again."
            )
    model.take(arrays)
