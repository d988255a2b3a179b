"""Indexes and settings of functional tensors that cannot be used."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from tensor_toys import FAST, fit, grid_entries, modes

import bayesdl as bdl
from bayesdl.gp.kernels import Matern32

DATES = pd.date_range("2024-01-01", periods=30)


@pytest.mark.parametrize(
    "dates",
    [DATES, DATES.tz_localize("UTC"), DATES.to_numpy(), DATES - DATES[0], list(DATES.to_numpy())],
)
def test_dates_are_refused_in_fit_and_in_predict(small, dates):
    """Not taken for nanoseconds."""
    _, _, y, post = small
    table = pd.DataFrame({"a": dates, "b": np.arange(30.0)})
    for given in (table, {"a": dates, "b": np.arange(30.0)}):
        with pytest.raises(bdl.DataError, match="Column 'a' holds dates"):
            fit(given, y[:30])
        with pytest.raises(bdl.DataError, match="Column 'a' holds dates"):
            post.predict(given)
    with pytest.raises(bdl.DataError, match="Column 'a' holds dates"):
        bdl.tensor.mode(post, "a").predict(dates)
    with pytest.raises(bdl.DataError, match="'x0' holds dates"):
        fit(np.stack([DATES.to_numpy()] * 2, 1), y[:30])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ({"a": 1.0, "b": 2.0}, "Column 'a' is not a column: got 1.0"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}, "ragged: got {'a': 2, 'b': 3} entries"),
        ({"a": [[1.0, 2.0]], "b": [1.0]}, r"'a' is not a column: got shape \(1, 2\)"),
        ({"a": [[1.0, 2.0], [3.0]], "b": [1.0, 2.0]}, "Column 'a' is ragged"),
        ({"a": [1.0, np.nan], "b": [1.0, 2.0]}, "Column 'a', row 1 is NaN"),
    ],
)
def test_indexes_that_make_no_table(small, X, message):
    with pytest.raises(bdl.DataError, match=message):
        small[-1].predict(X)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (["z"], "Column 'a', row 0 is not a number: got 'z'"),
        ([0.1, np.nan], "Column 'a', row 1 is NaN"),
        (
            np.zeros((2, 3)),
            r"mode\('a'\).predict\(x\) takes indexes of shape \(n,\): got shape \(2, 3\)",
        ),
        ([[1.0], [1.0, 2.0]], r"x of mode\('a'\) is ragged"),
    ],
)
def test_indexes_of_a_mode_that_are_none(small, x, message):
    with pytest.raises(bdl.DataError, match=message):
        bdl.tensor.mode(small[-1], "a").predict(x)


def test_annealing_fits_the_iterations():
    num_annealed = [bdl.MessagePassing(iterations=n).num_annealed for n in (1, 2, 10, 20, 300)]
    assert num_annealed == [0, 1, 5, 10, 10]
    assert bdl.MessagePassing(iterations=30, anneal=10) != bdl.MessagePassing(
        iterations=30
    )  # what older files hold


GOOD = grid_entries(30)[:2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bdl.FunBaT(("a",)), "two or more"),
        (lambda: bdl.FunBaT("day"), "modes='day'.*two or more"),
        (lambda: bdl.FunBaT(bdl.Mode("day")), "two or more"),
        (lambda: bdl.FunBaT(("a", "a")), "different"),
        (lambda: bdl.FunBaT(("a", "b"), form="tt"), "'cp', 'tucker'"),
        (lambda: bdl.FunBaT((bdl.Mode("a", rank=2), bdl.Mode("b", rank=3))), "equal ranks"),
        (lambda: bdl.FunBaT(("a", "b"), likelihood=bdl.Categorical()), "FunBaT takes"),
        (lambda: bdl.Mode("a", bdl.kernels.RBF()), "Matern12"),
        (lambda: bdl.Mode("a", rank=0), "at least 1"),
        (lambda: bdl.Mode("a", Matern32(lengthscale=(1.0, 2.0))), "one length scale"),
        (lambda: bdl.MessagePassing(damping=1.0), "damping"),
        (lambda: bdl.MessagePassing(iterations=10, anneal=10), "0 <= anneal < iterations"),
        (
            lambda: bdl.fit(
                bdl.FunBaT(modes(), likelihood=bdl.Normal(scale=dist.Uniform(0.1, 2))),
                *GOOD,
                engine=FAST,
            ),
            "bounded support",
        ),
        (
            lambda: fit(np.where(np.arange(60).reshape(30, 2) == 7, np.inf, GOOD[0]), GOOD[1]),
            "row 3",
        ),
        (lambda: fit(GOOD[0] * [1.0, 0.0], GOOD[1]), "Mode 'b' has 1 distinct index and"),
        (lambda: fit(GOOD[0], np.full(30, np.nan)), "missing"),
        (lambda: fit(pd.DataFrame(GOOD[0], columns=["a", "c"]), GOOD[1]), "lacks column 'b'"),
        (lambda: fit(GOOD[0][:, :1], GOOD[1]), "expected 2"),
        (
            lambda: bdl.fit(bdl.FunBaT(modes(40)), *GOOD, engine=FAST, progress=False),
            "lower its rank",
        ),
        (
            lambda: bdl.fit(bdl.FunBaT(modes(), likelihood=bdl.StudentT()), *GOOD, engine=FAST),
            "give bdl.StudentT",
        ),
        (lambda: bdl.fit(bdl.BNN(), *GOOD, engine=FAST), "needs a functional tensor"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
