"""Sparse subspace VI: what is refused, and what is warned about."""

import dataclasses

import numpy as np
import numpyro.distributions as dist
import pytest
from sparse_toys import fitted, regression

import bayesdl as bdl
from inference.core.result import Draws
from inference.sparse.engine import SSVI
from inference.sparse.patterns.pattern import BudgetError, Pattern


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([[0, 1, 2], [3, 2, 4]], "not sorted"),
        ([[0, 1, 2], [3, 3, 4]], "not unique"),
        ([[0, 1, 2], [3, 4, 9]], "out of range: got 9, expected 0..6"),
        ([[0, 1], [3, 4]], "expected whole numbers of shape"),
    ],
)
def test_wrong_indices_are_refused(index, message):
    with pytest.raises(BudgetError, match=message):
        Pattern((2, 7), (1, 1), True, 3).check_index(np.array(index), "layer0.weight")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.01, "dense_output": True}, "leaves nothing but the dense layers"),
        ({"density": 0.02, "structure": "fan_in"}, "which leaves it empty: .* the least is"),
        ({"kernel": "blocks"}, "kernel='blocks' cannot multiply"),
    ],
)
def test_budgets_that_do_not_fit_are_refused(settings, message):
    X, y = regression()
    with pytest.raises(BudgetError, match=message):
        bdl.fit(bdl.BNN(hidden=(30, 30)), X, y, engine=SSVI(**settings), progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"density": 0.0},
        {"density": 1.5},
        {"structure": "block:0"},
        {"structure": "blocks"},
        {"removal": "smallest"},
        {"allocation": "global", "structure": "fan_in"},
        {"beta": 0.0},
        {"optimizer": 3},
        {"steps": 0},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SSVI(**settings)


def test_models_without_layers_are_refused():
    def program(x, y=None):
        import numpyro

        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(x)) as rows:
            numpyro.sample("y", dist.Normal(w * x[rows], 1.0), obs=None if y is None else y[rows])

    with pytest.raises(bdl.UnsupportedError, match="layers of a network"):
        bdl.fit(program, np.ones(5), y=np.ones(5), engine=SSVI(), progress=False)
    X, y = regression()
    with pytest.raises(bdl.UnsupportedError, match="other latent variables for each weight"):
        bdl.fit(bdl.BNN(prior=bdl.priors.Horseshoe()), X, y, engine=SSVI(), progress=False)
    with pytest.raises(bdl.UnsupportedError, match="needs normal priors"):
        bdl.fit(
            bdl.BNN(prior=bdl.priors.Laplace()),
            X,
            y,
            engine=SSVI(removal="evidence"),
            progress=False,
        )


@pytest.mark.slow
def test_padding_is_said():
    X, y = regression(columns=30)
    post = bdl.fit(
        bdl.BNN(hidden=(30, 30)),
        X,
        y,
        engine=SSVI(structure="block:8", density=0.6, steps=100),
        progress=False,
    )
    notes = bdl.sparse.report(post).notes
    assert any("(30, 30), is padded to (32, 32)" in note for note in notes)
    assert all(
        mask.shape == (30, mask.shape[1]) or mask.shape[0] == 1
        for mask in bdl.sparse.masks(post).values()
    )


def test_functions_of_sparse_refuse_other_fits():
    post = dataclasses.replace(fitted(), raw=Draws({"w": np.zeros((1, 2))}, {}))
    with pytest.raises(bdl.UnsupportedError, match=r"fit with bdl\.SSVI, .*engine=bdl\.SSVI"):
        bdl.sparse.report(post)


def test_the_loss_of_a_needed_weight_warns():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 12))
    X[:, 1] += 0.5 * X[:, 0]
    y = 2 * X[:, 0] - 1.5 * X[:, 1] + X[:, 2] + 0.7 * rng.normal(size=200)
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(0.7), standardize=False)
    settings = {"density": 0.25, "steps": 2000, "every": 50, "learning_rate": 0.05}
    with pytest.warns(UserWarning, match="needed may have been exchanged"):
        bdl.fit(model, X, y, engine=SSVI(**settings), progress=False)
    post = bdl.fit(model, X, y, engine=SSVI(**settings, removal="evidence"), progress=False)
    assert np.flatnonzero(bdl.sparse.masks(post)["layer0.weight"][0]).tolist() == [0, 1, 2]


@pytest.mark.slow
def test_beta_is_shown():
    X, y = regression()
    post = bdl.fit(
        bdl.BNN(hidden=(10,)), X, y, engine=SSVI(steps=200, density=0.5, beta=0.1), progress=False
    )
    assert "beta=0.1" in repr(bdl.sparse.report(post))
    assert post.raw.info["objective"] == "tempered_elbo(beta=0.1)"  # which `diagnose` tells
