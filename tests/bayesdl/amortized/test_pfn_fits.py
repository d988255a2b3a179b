"""Fits by prior-data fitted networks: predictions, files, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest
from amortized_toys import CELLS, GP, SMALL, linear_program, normal_mean, train, with_offset

import bayesdl as bdl
from bayesdl import amortized
from bayesdl.data.validation import ModelError
from bayesdl.posterior.prediction import crps


@pytest.mark.slow
def test_a_network_of_cells_is_saved(tmp_path):
    pfn = train(linear_program, steps=30, **CELLS)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 2)), rng.normal(size=8)
    loaded = bdl.PFN.load(pfn.save(tmp_path / "cells.pfn"), linear_program)
    one, other = (
        bdl.fit(linear_program, X, y, engine=engine, progress=False).predict(X).mean
        for engine in (pfn, loaded)
    )
    np.testing.assert_array_equal(one, other)


def test_fit_predicts_and_is_saved(trained, tmp_path):
    X, y = np.random.default_rng(0).normal(size=(7, 1)), np.random.default_rng(1).normal(size=7) + 1
    post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
    prediction = post.predict(X[:3])
    assert prediction.mean[0] == pytest.approx(y.sum() / 8, abs=0.2)
    assert prediction.std[0] == pytest.approx(np.sqrt(1 + 1 / 8), rel=0.15)
    np.testing.assert_allclose(prediction.cdf(prediction.quantile(0.9)), 0.9, atol=1e-3)

    again = bdl.PFN.load(trained.save(tmp_path / "mean.pfn"), model=normal_mean)
    assert repr(again) == repr(trained)
    np.testing.assert_array_equal(
        bdl.fit(normal_mean, X, y, engine=again, progress=False).predict(X[:3]).mean,
        prediction.mean,
    )
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), model=normal_mean, engine=trained)
    np.testing.assert_array_equal(loaded.predict(X[:3]).mean, prediction.mean)
    with pytest.raises(bdl.BundleError, match="not a bayesdl-pfn bundle"):
        bdl.PFN.load(tmp_path / "fit.bdl")
    with pytest.raises(bdl.BundleError, match="trained on another program"):
        bdl.PFN.load(tmp_path / "mean.pfn", model=with_offset)
    other = dataclasses.replace(trained, grids=jax.tree.map(lambda part: 2 * part, trained.grids))
    with pytest.raises(bdl.BundleError, match="fitted with another PFN"):
        bdl.load(tmp_path / "fit.bdl", model=normal_mean, engine=other)


def test_arguments_that_were_not_in_training_are_refused(trained):
    other = dataclasses.replace(
        trained, tasks=dataclasses.replace(trained.tasks, program=with_offset)
    )
    X, y = np.zeros((3, 1)), np.arange(3.0)
    with pytest.raises(bdl.UnsupportedError, match="argument 'offset' is given"):
        bdl.fit(with_offset, X, offset=y, y=y, engine=other, progress=False)
    ours = bdl.fit(with_offset, X, y=y, engine=other, progress=False).predict(X).mean
    np.testing.assert_array_equal(
        ours, bdl.fit(normal_mean, X, y, engine=trained, progress=False).predict(X).mean
    )


def test_what_lies_outside_training_is_said(trained):
    X, y = np.zeros((7, 1)), np.zeros(7)
    with pytest.warns(UserWarning, match="12 rows, trained for at most 10"):
        bdl.fit(normal_mean, np.zeros((12, 1)), np.zeros(12), engine=trained, progress=False)
    with pytest.warns(UserWarning, match="targets from 0 to 90, trained for"):
        bdl.fit(normal_mean, X, y + 90 * (np.arange(7) == 3), engine=trained, progress=False)
    post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
    assert post.raw.info["outside"] == []
    with pytest.warns(UserWarning, match="inputs from 50 to 50, trained for"):
        post.predict(X + 50)
    with pytest.raises(bdl.UnsupportedError, match="X has 2 columns, and it was trained for 1"):
        bdl.fit(normal_mean, np.zeros((7, 2)), y, engine=trained, progress=False)
    with pytest.raises(bdl.UnsupportedError, match="it was trained on"):
        bdl.fit(GP, X + np.arange(7)[:, None], np.arange(7.0), engine=trained, progress=False)


def test_joint_samples_follow_the_chain_rule(trained):
    """Cov(y_i, y_j | data) = 1 / (n + 1), and marginals are those of single rows, z < 4."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(4, 1)), rng.normal(size=4)
    prediction = bdl.fit(normal_mean, X, y, engine=trained, progress=False).predict(X[:3])
    draws = prediction.sample(4000)
    error = prediction.std / np.sqrt(4000)
    assert (
        np.abs(draws.mean(0) - prediction.mean) < 4 * error + 0.05
    ).all()  # 0.05: what the network loses
    covariance = np.cov(draws.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(covariance, 1 / 5, atol=4 * 1.2 / np.sqrt(4000) + 0.05)
    alone = np.cov(prediction.marginal_samples(4000).T)[np.triu_indices(3, 1)]
    assert np.abs(alone).max() < 4 * 1.3 / np.sqrt(4000)
    large = bdl.fit(normal_mean, X, y, engine=trained, progress=False).predict(
        rng.normal(size=(300, 1))
    )
    with (
        pytest.warns(UserWarning, match="read their own rows too"),
        pytest.raises(ValueError, match="Joint samples of 300 rows"),
    ):
        large.sample(2)


@pytest.mark.slow
def test_units_of_y_are_those_of_the_data():
    """A standardising model's means, densities, scores and samples move and stretch with y."""
    pfn = bdl.PFN.pretrained("gp-regression")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    one, other = (
        bdl.fit(pfn.model, X, target, engine=pfn, progress=False).predict(X[:5])
        for target in (y, 100 + 50 * y)
    )
    np.testing.assert_allclose(other.mean, 100 + 50 * one.mean, rtol=1e-4)
    np.testing.assert_allclose(other.std, 50 * one.std, rtol=1e-3)
    np.testing.assert_allclose(
        other.log_prob(100 + 50 * y[:5]), one.log_prob(y[:5]) - np.log(50), atol=1e-3
    )
    np.testing.assert_allclose(other.crps(100 + 50 * y[:5]), 50 * one.crps(y[:5]), rtol=1e-3)
    np.testing.assert_allclose(other.quantile(0.9), 100 + 50 * one.quantile(0.9), rtol=1e-3)
    np.testing.assert_allclose(
        other.crps(y[:5]), crps(other.marginal_samples(20_000), y[:5]), rtol=0.02
    )
    assert (
        np.isnan(one.epistemic).all() and np.isnan(one.aleatoric).all()
    )  # a network does not tell them apart


def test_what_a_pfn_refuses_after_training(trained):
    X, y = np.random.default_rng(0).normal(size=(9, 1)), np.arange(9.0) / 9
    with pytest.raises(bdl.DataError, match="rows of observed values that are NaN"):
        bdl.fit(normal_mean, X, np.where(y > 0.5, np.nan, y), engine=trained, progress=False)
    with pytest.raises(
        bdl.UnsupportedError,
        match="X has 100 rows, and more than 8 times the 10 that it was trained for",
    ):
        bdl.fit(normal_mean, np.zeros((100, 1)), np.zeros(100), engine=trained, progress=False)
    with pytest.raises(ModelError, match="1 to 10 rows, for which it was trained"):
        trained.certify(bdl.NUTS(), num_tasks=2, num_rows=11)
    post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
    with pytest.raises(ValueError, match="expected at least 99"):
        amortized.ood(post, 20)
    with pytest.warns(UserWarning, match="joint samples read their own rows too"):
        post.predict(X[:5]).sample(3)
    with pytest.raises(ValueError, match="expected 'gp-regression', 'tabular-classification'"):
        bdl.PFN.pretrained("gp")


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\), expected \(rows, 1\)"),
        (np.zeros(3), r"shape \(3,\), expected"),
        (np.full((3, 1), np.nan), "not finite"),
    ],
)
def test_new_inputs_that_do_not_fit_are_refused(trained, X, message):
    post = bdl.fit(normal_mean, np.zeros((5, 1)), np.arange(5.0), engine=trained, progress=False)
    with pytest.raises(ValueError, match=message):
        _ = post.predict(X).mean


@pytest.mark.slow
def test_what_a_user_of_a_pfn_sees(trained, tmp_path):
    post = bdl.fit(normal_mean, np.zeros((5, 1)), np.arange(5.0), engine=trained, progress=False)
    summary = post.summary()
    assert summary.index.tolist() == ["mu"]
    assert summary.loc["mu", "5%"] < summary.loc["mu", "mean"] < summary.loc["mu", "95%"]
    assert "50%" in str(trained) and len(str(trained).splitlines()) == 2 + len(
        trained.certificate["rows"]
    )
    with pytest.raises(ValueError, match=r"bdl.amortized.ood\(post\)"):
        post.check_predictive()
    path = trained.save(tmp_path / "mean.pfn")
    with pytest.raises(bdl.BundleError, match=r"bdl.PFN.load\("):
        bdl.PFN.load(path)
    with pytest.raises(bdl.BundleError, match="another program"):
        bdl.PFN.load(path, lambda X, y=None: None)
    one = train(normal_mean, steps=1, latents="mu", **SMALL)
    assert one.tasks.latents == ("mu",)


def test_old_names_of_a_pfn_warn(trained):
    X = np.full((2, 1), 50.0)
    with pytest.warns(DeprecationWarning, match="use pfn.model.no_other_engine"):
        assert not trained.only_amortized
    with pytest.warns(DeprecationWarning, match="use pfn.training_range.concerns"):
        assert len(trained.concerns(X, np.zeros(2))) == 1
    with pytest.warns(DeprecationWarning, match="use pfn.training_range.input_concerns"):
        assert trained.inputs_outside(X) == trained.training_range.input_concerns(X)
