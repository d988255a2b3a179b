"""Features of items: the last layer as a linear function of them, and items that came later.

The rows of the decoder's last layer are deviations from a linear function of the items' features.
An item without any entry has no deviation, so its scores come from its features alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.network import Network, Weights
from bayesdl.recommend.rows import as_features, reorder_by_label
from bayesdl.typing import StoredArrays, TableLike

# The standard deviation of the features' weights at the start.
WEIGHT_SCALE = 0.01
# The log odds of new items in the learned users of the prior "vamp": they have none of them.
ABSENT = -1e9


def read_features(features: TableLike, labels: np.ndarray) -> np.ndarray:
    """Check the features of the items of a fit.

    Args:
        features: items x features, in the order of the labels, or a DataFrame with them as index.
        labels: the labels of the items, shape (items,).

    Returns:
        The features, shape (items, features).

    Raises:
        DataError: for another number of items, or values that are not finite numbers.
    """
    ordered = reorder_by_label(features, labels, 0, "Expected a row for each item.")
    F = as_features(ordered, "item_features")
    if F.ndim != 2 or len(F) != len(labels) or not np.isfinite(F).all():
        raise DataError(
            f"item_features has shape {F.shape}, expected finite numbers with a row for each of "
            f"{len(labels)} items."
        )
    return F


def init_features(F: np.ndarray, width: int, key: jax.Array) -> dict[str, jax.Array]:
    """Draw the parameters of the linear function for the start, and add the features.

    Args:
        F: the features, shape (items, features).
        width: the width of the decoder's last layer.
        key: the key of the draw.
    """
    return {
        "features": jnp.asarray(F),
        "features.weight": WEIGHT_SCALE * jax.random.normal(key, (F.shape[1], width)),
        "features.bias": jnp.zeros(F.shape[1]),
    }


def feature_shapes(num_items: int, num_features: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters that `init_features` makes."""
    return {
        "features": (num_items, num_features),
        "features.weight": (num_features, width),
        "features.bias": (num_features,),
    }


def read_new_features(
    features: TableLike, labels: np.ndarray, names: Sequence[object], num_features: int
) -> np.ndarray:
    """Check the features of items that come after the fit.

    Args:
        features: items x features, in the order of the labels, or a DataFrame with them as index.
        labels: the labels of the new items, shape (new items,).
        names: the names of the features of the fit, or nothing.
        num_features: the number of features of the fit.

    Returns:
        The features, shape (new items, features).

    Raises:
        DataError: for other features, another number of items, or values that are not finite.
    """
    table = reorder_by_label(features, labels, 0, "Expected a row for each of the new items.")
    if names:
        table = reorder_by_label(table, names, 1, "Expected the features of the fit.")
    F = as_features(table, "with_items")
    matches = F.ndim == 2 and F.shape[1] == num_features and len(labels) == len(F)
    if not matches or not np.isfinite(F).all():
        raise DataError(
            f"with_items: features of shape {F.shape} and {len(labels)} labels; expected finite "
            f"numbers (items, {num_features}) and a label of each."
        )
    return F


def append_labels(known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Append the labels of new items to those of the fit.

    Raises:
        DataError: for labels of another kind, or that are not new.
    """
    both = np.concatenate([known, labels])
    kinds, new_kinds = ({type(label) for label in part.tolist()} for part in (known, labels))
    if new_kinds - kinds:
        raise DataError(
            f"with_items: the labels {labels[:3]}, ... are of another kind than {known[:3]}, ... "
            "of the fit."
        )
    if len(np.unique(both)) < len(both):
        raise DataError(f"with_items: the labels {labels[:3]}, ... must be new, each of them once.")
    return both


def append_items(params: Weights, network: Network, F: np.ndarray) -> StoredArrays:
    """Return the parameters with more items, which have no deviations from their features.

    Args:
        params: the parameters of the fit.
        network: the network of the fit.
        F: the features of the new items, shape (new items, features).
    """
    last = network.item_layer_name
    # The axis of the items, and the new values or the number that fills them.
    grown: dict[str, tuple[int, np.ndarray | float]] = {
        "features": (0, F),
        "encoder0.weight": (0, 0.0),
        f"{last}.weight": (1, 0.0),
        f"{last}.bias": (0, 0.0),
        "pseudo": (1, ABSENT),
    }
    found = {name: np.asarray(value) for name, value in params.items()}
    for name, (axis, more) in grown.items():
        if name not in found:
            continue
        if not isinstance(more, np.ndarray):
            shape = list(found[name].shape)
            shape[axis] = len(F)
            more = np.full(shape, more, np.float32)
        found[name] = np.concatenate([found[name], more], axis)
    return found
