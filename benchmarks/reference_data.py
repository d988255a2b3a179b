"""Where reference data for benchmarks and tests are found; the project works without them.

The folder is `BAYESDL_DATA` where set, otherwise `shared/data` beside the checkout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


class MissingData(FileNotFoundError):
    """The reference data are not on this machine."""


def find(name: str) -> Path:
    """The path of a reference file."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("BAYESDL_DATA", default)) / name
    if not path.exists():
        raise MissingData(f"reference data {name} are not here: set BAYESDL_DATA to their folder")
    return path


def uci(name: str) -> dict[str, np.ndarray]:
    """A UCI regression set: X, y, test (split x row), mc_dropout_rmse and _ll per split."""
    with np.load(find(f"uci/{name}.npz")) as archive:
        return dict(archive)


def posteriordb(name: str) -> dict:
    """Data and reference moments of a posteriordb posterior."""
    return json.loads(find(f"posteriordb/{name}.json").read_text())


def beijing(name: str = "beijing_pm25") -> dict[str, np.ndarray]:
    """Daily air quality as a functional tensor: index (rows x 3), y, test (fold x row), and splits
    of whole days.
    """
    with np.load(find(f"funbat/{name}.npz")) as archive:
        return dict(archive)


def mnist() -> dict[str, np.ndarray]:
    """MNIST: X_train, y_train, X_test, y_test; pixels in rows, from 0 to 1."""
    with np.load(find("mnist.npz")) as archive:
        data = dict(archive)
    for part in ("train", "test"):
        images = data.pop(next(name for name in data if part in name and data[name].ndim == 3))
        data[f"X_{part}"] = (images.reshape(len(images), -1) / 255).astype(np.float32)
        data[f"y_{part}"] = data.pop(
            next(name for name in data if part in name and data[name].ndim == 1)
        ).astype(int)
    return data


def movielens() -> dict:
    """MovieLens 1M: users, items and ratings of events, and the published split as CSR."""
    import pandas as pd
    import scipy.sparse

    table = pd.read_csv(find("ml-1m/ratings_uir.csv.gz")).to_numpy()
    parts = ("train", "val_foldin", "val_heldout", "test_foldin", "test_heldout")
    matrices = {
        part: scipy.sparse.csr_array(scipy.sparse.load_npz(find(f"ml-1m/{part}.npz")))
        for part in parts
    }
    return dict(zip(("users", "items", "ratings"), table.T, strict=True)) | matrices
