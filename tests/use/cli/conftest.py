"""The tables and fits that the tests of the command line share."""

import contextlib
import io

import numpy as np
import pytest
from cli_toys import GP
from sklearn.datasets import load_diabetes, load_iris

from bayesdl.cli import main as cli


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tables: diabetes with a text column, and iris with named classes."""
    path = tmp_path_factory.mktemp("cli")
    diabetes = load_diabetes(as_frame=True).frame[["sex", "bmi", "bp", "target"]].head(60)
    diabetes["sex"] = np.where(diabetes["sex"] > 0, "male", "female")
    diabetes.to_csv(path / "diabetes.csv", index=False)
    iris = load_iris(as_frame=True).frame[::3]
    iris["target"] = np.array(["setosa", "versicolor", "virginica"])[iris["target"]]
    iris.to_csv(path / "iris.csv", index=False)
    return path


@pytest.fixture(scope="session")
def fit_output(folder):
    """What fitting a Gaussian process printed; the bundle is saved once for all tests."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(
            [
                "fit",
                str(folder / "diabetes.csv"),
                "--target",
                "target",
                *GP,
                "-o",
                str(folder / "gp.bdl"),
            ]
        )
    assert code == 0
    return out.getvalue()


@pytest.fixture(scope="session")
def fitted(folder, fit_output):
    return folder / "gp.bdl"
