"""Rows reach frozen predictors as they are given, and stay with their targets."""

import pathlib

import numpy as np
import pandas as pd
import pytest

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError
from bayesdl.warnings import DataWarning

TABLE = pd.DataFrame({"a": np.linspace(-1, 1, 20), "b": np.linspace(0, 1, 20) ** 2})
Y = TABLE.a + 0.1 * np.sin(9 * TABLE.a)


class Line:
    """A predictor of numbers."""

    def predict(self, X):
        return np.asarray(X)[:, 0]


def network():
    torch = pytest.importorskip("torch")
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).eval()


@pytest.mark.parametrize("kind", ["inputs", "prediction", "layer"])
def test_targets_of_other_rows_are_refused(kind):
    model = (
        bdl.LastLayer(network()) if kind == "layer" else bdl.Frozen(Line(), "normal", features=kind)
    )
    schema = model.learn_schema(TABLE, Y)
    for learn in (model.learn_schema, lambda *a, **k: model.problem(schema, *a, **k)):
        with pytest.raises(DataError, match="in another order"):
            learn(TABLE, Y[::-1])
        with pytest.raises(DataError, match="X and weights have rows with labels"):
            learn(TABLE, Y, weights=pd.Series(np.ones(20), index=range(1, 21)))
        learn(TABLE, Y.to_numpy(), weights=pd.Series(np.ones(20)))


def test_functions_get_rows_as_they_are():
    exact = TABLE.assign(a=16777216.0 + np.arange(20))
    model = bdl.Frozen(lambda X: X["a"] - 16777216.0, head="normal", features="prediction")
    np.testing.assert_array_equal(model._table(exact)[:, 0], np.arange(20))


class Known:
    """A predictor that passes over what is no number."""

    def __init__(self, slope=1.0):
        self.slope = slope

    def predict(self, X):
        return self.slope * X["a"].to_numpy(float)


def test_rows_that_files_cannot_hold_are_passed_over():
    table = TABLE.assign(c=np.array([None, *map(np.int64, range(19))], dtype=object))
    model = bdl.Frozen(Known(), head="normal", features="prediction")
    schema = model.learn_schema(table, Y)
    assert len(schema.rows) == 8 and schema.rows[0][0] == TABLE.a[1]
    stored = model.without_code()
    assert stored.with_code(Known(), schema).predictor.slope == 1.0
    with pytest.raises(DataError, match="not the one that was fitted"):
        stored.with_code(Known(1.001), schema)
    dated = TABLE.assign(c=pd.date_range("2024-01-01", periods=20))
    with pytest.warns(DataWarning, match="is not checked"):
        stored.with_code(Known(), model.learn_schema(dated, Y))


@pytest.mark.parametrize("head", ["normal", "temperature"])
def test_answers_that_are_no_numbers_are_refused_in_words(head):
    for answer, shown in ((None, "None"), (np.array(["hi"] * 20), "hi")):
        with pytest.raises(DataError, match=rf"Predictions are {shown}: expected an array of num"):
            bdl.Frozen(lambda X, answer=answer: answer, head=head).learn_schema(TABLE, Y)
    texts = np.array(["hi"] * 20)
    with pytest.raises(DataError, match=r"Predictions are .*hi"):
        bdl.Frozen(None, head=head).learn_schema(texts if head == "normal" else texts[:, None], Y)


def test_rows_may_be_a_tensor():
    torch = pytest.importorskip("torch")
    rows = torch.tensor(TABLE.to_numpy())
    for predictor in (network(), lambda X: X.detach().numpy()[:, 0]):
        model = bdl.Frozen(predictor, head="normal")
        schema = model.learn_schema(rows, Y.to_numpy())
        table = model._table(rows)
        np.testing.assert_allclose(table[:, 1:], TABLE.to_numpy())
        np.testing.assert_allclose(np.array(schema.answers), table[:8, :1], rtol=1e-6)
    with pytest.raises(DataError, match=r"detach\(\)"):
        bdl.Frozen(network(), head="normal").learn_schema(rows.requires_grad_(), Y.to_numpy())


def test_the_path_of_a_predictor_is_none():
    for path in ("forest.pkl", pathlib.Path("forest.pkl")):
        with pytest.raises(ModelError, match=r"forest\.pkl'?\)?\): expected the predictor itself"):
            bdl.Frozen(path, head="normal").learn_schema(TABLE, Y)
