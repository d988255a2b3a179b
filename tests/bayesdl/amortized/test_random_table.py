"""Random tables, and stacked networks that are trained on them."""

import dataclasses

import jax
import numpy as np
import pytest
from amortized_toys import train

import bayesdl as bdl
from inference.amortized.tasks import simulate

SMALL = {"kind": "stacked", "num_inputs": (1, 5), "num_classes": 3, "max_rows": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def stacked():
    return train(bdl.RandomTable(parts=("clouds", "linear")), steps=100, **SMALL)


def table(rows=20, columns=3):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, columns))
    return X, np.where(X[:, 0] > 0.3, "a", np.where(X[:, 1] > 0, "b", "c"))


def test_draws_have_columns_and_classes_of_all_numbers(stacked):
    drawn = simulate(stacked.tasks, jax.random.key(0), 64)
    X, y = np.asarray(drawn.X), np.asarray(drawn.y)
    assert np.isfinite(X).all() and np.abs(X).max() < 30
    assert set((X != 0).any(1).sum(1)) == {1, 2, 3, 4, 5}
    assert {len(np.unique(one)) for one in y} >= {2, 3}


def test_a_stacked_network_answers_and_is_saved(stacked, tmp_path):
    assert "classical stacking" in str(stacked)
    assert stacked.certificate["change_with_other_queries"] == 0
    assert stacked.certificate["change_with_order"] < 1e-4
    X, y = table(12)
    post = bdl.fit(stacked.model, X, y, engine=stacked, progress=False)
    expected = post.predict(X).probs
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-5)
    assert np.mean(np.unique(y)[expected.argmax(1)] == y) > 0.7
    again = bdl.PFN.load(stacked.save(tmp_path / "stacked.pfn"))
    post = bdl.fit(again.model, X, y, engine=again, progress=False)
    np.testing.assert_array_equal(post.predict(X).probs, expected)


@pytest.mark.slow
def test_more_columns_and_rows_than_in_training_are_answered_and_said(stacked):
    X, y = table(12, 9)
    with pytest.warns(UserWarning, match="9 columns, trained for at most 5"):
        post = bdl.fit(stacked.model, X, y, engine=stacked, progress=False)
    assert np.isfinite(post.predict(X).probs).all()


@pytest.mark.slow
def test_an_interrupted_training_on_a_bank_ends_with_the_same_weights(tmp_path, stacked):
    class Enough(BaseException):
        pass

    from inference.amortized.steps import bank

    calls, run = [], bank.run_banked

    def twice(*args, **kwargs):
        if len(calls) == 1:
            raise Enough
        calls.append(1)
        return run(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "run_banked", twice)
        patch.setattr("inference.amortized.saving.SAVE_EVERY", 0.0)
        with pytest.raises(Enough):
            train(stacked.model, checkpoint=tmp_path / "run", steps=100, **SMALL)
    found = train(stacked.model, checkpoint=tmp_path / "run", steps=100, **SMALL)
    assert found.hash == stacked.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ("forests",)}, "expected some of 'clouds'"),
        ({"weights": (0.5, 0.6)}, "positive numbers of sum 1"),
        ({"label_noise": 2.0}, "between 0 and 1"),
        ({"sharpness": (1.0,)}, "a location and a scale"),
        ({"likelihood": bdl.Normal()}, "expected bdl.Categorical"),
    ],
)
def test_tables_that_make_no_sense_are_refused(change, message):
    with pytest.raises(bdl.ModelError, match=message):
        dataclasses.replace(bdl.RandomTable(), **change)


def test_what_stacked_networks_and_random_tables_cannot_do_is_said(stacked):
    with pytest.raises(bdl.ModelError, match="'stacked': it predicts classes"):
        train(bdl.GP(), kind="stacked")
    X, y = table()
    with pytest.raises(bdl.ModelError, match="draws inputs and targets together"):
        bdl.prior_predictive(stacked.model, X, y)
    post = bdl.fit(stacked.model, X[:12], y[:12], engine=stacked, progress=False)
    with pytest.raises(bdl.UnsupportedError, match="draws inputs and targets together"):
        bdl.amortized.ood(post)
    with pytest.warns(DeprecationWarning, match="kind"):
        assert bdl.amortized.Training(tokens="cells").kind == "cells"
