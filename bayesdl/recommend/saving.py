"""Loading of recommenders; `bundle.py` says how a file holds them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.bundle import read_recommender


def load(path: str | Path, *, key: str | bytes | None = None) -> AbstractRecommender:
    """Load a recommender; it recommends the same as the one that was saved, to the bit.

    Args:
        path: the path of a file written by `model.save(path)`.
        key: the secret that the file must be signed with; None takes any file.

    Raises:
        BundleError: for a file that is not such a bundle, is damaged, or is of a newer schema.
    """
    return cast(AbstractRecommender, read_recommender(path, key))
