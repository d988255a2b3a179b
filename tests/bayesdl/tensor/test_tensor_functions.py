"""What a fitted functional tensor gives: functions, predictions, updates."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tensor_toys import FAST, fit, grid_entries, modes

import bayesdl as bdl
from bayesdl.checks.convergence import TrustWarning
from bayesdl.gp.kernels import Constant, Matern32
from inference.messages import pseudo_observations as scalar
from inference.messages import streaming
from inference.messages.engine import CollapseWarning


def test_predictions_between_and_outside(small):
    _, X, _, post = small
    new = np.array([[-3.0, 0.5], [0.5, 0.5], [9.0, 0.5], [X[0, 0], X[0, 1]]])
    prediction = post.predict(new)
    assert np.isfinite(prediction.mean).all()
    far = float(np.asarray(prediction.epistemic)[2])
    assert far > np.asarray(prediction.epistemic)[1]
    # a factor far from its data is its prior: E f^2 = E[u(9)^2] E[v^2] = E[v^2]
    np.testing.assert_allclose(prediction.mean[2], 0.0, atol=1e-3)
    assert post.diagnose().ok


def test_saved_and_loaded(small, tmp_path):
    _, X, _, post = small
    back = bdl.load(post.save(tmp_path / "tensor.bdl"))
    np.testing.assert_array_equal(back.predict(X).mean, post.predict(X).mean)
    assert back.raw.info["elbo_trace"] == post.raw.info["elbo_trace"]


@pytest.mark.slow
def test_large_counts():
    """A rate of about 150: starts far from it go there, and what cannot be trusted is not called
    so.
    """
    rng = np.random.default_rng(0)
    X, _, f = grid_entries(300, (12, 12), noise=0.0)
    rates = np.exp(5 + 0.5 * f)
    kernel = Matern32(lengthscale=0.5) + Constant(5.0)
    model = bdl.FunBaT(modes(2, kernel=kernel), likelihood=bdl.Poisson(), relevance=False)
    post = bdl.fit(
        model,
        X,
        rng.poisson(rates),
        engine=bdl.MessagePassing(restarts=3, iterations=100),
        progress=False,
    )
    assert post.diagnose().ok
    assert np.abs(post.predict(X).mean / rates - 1).mean() < 3 / np.sqrt(150)


@pytest.mark.slow
def test_predictions_of_draws_do_not_depend_on_batches():
    X, y, _ = grid_entries(40, (6, 6))
    post = bdl.fit(
        bdl.FunBaT(modes(), relevance=False), X, y, engine=bdl.NUTS(50, 20, 1), progress=False
    )
    new = np.array([[0.5, 0.33], [0.12, 0.9], [0.5, 0.33], [0.7, 0.1]])
    one, other = post.predict(new).mean, post.predict(new, batch_size=2).mean
    np.testing.assert_allclose(one, other, rtol=1e-9)
    assert one[0] == one[2]


@pytest.mark.slow
def test_modes_may_have_any_name():
    X, y, _ = grid_entries(40, (6, 6))
    model = bdl.FunBaT(modes(names=("x", "y")))
    assert np.isfinite(bdl.fit(model, X, y, engine=FAST, progress=False).predict(X).mean).all()


@pytest.mark.slow
def test_data_by_name():
    X, y, _ = grid_entries(80)
    model = bdl.FunBaT(modes())
    expected = bdl.fit(model, X, y, engine=FAST, progress=False).predict(X[:5]).mean
    table = pd.DataFrame({"other": 1.0, "b": X[:, 1], "a": X[:, 0]})
    post = bdl.fit(model, table, pd.Series(y), engine=FAST, progress=False)
    np.testing.assert_allclose(post.predict(table[:5]).mean, expected)
    np.testing.assert_allclose(post.predict({"a": X[:5, 0], "b": X[:5, 1]}).mean, expected)


@pytest.mark.slow
def test_summary_lists_point_estimates(tmp_path):
    """Length scales, scales and noise as they are in `params`; of a loaded fit too, and of
    updates.
    """
    X, y, _ = grid_entries(80)
    post = fit(X, y, modes(2, kernel=Matern32()))
    for each in (post, bdl.load(post.save(tmp_path / "tensor.bdl"))):
        table = each.summary()["value"]
        assert list(table.index) == [
            "a.lengthscale",
            "scales[0]",
            "scales[1]",
            "b.lengthscale",
            "sigma",
        ]
        assert (
            table["a.lengthscale"] == each.raw.params["hyper.a.lengthscale"]
            and table["sigma"] == each.raw.params["sigma"]
        )
    assert list(post.summary(["sigma"]).index) == ["sigma"]


def test_summary_of_some_sites(small):
    """The noise is all that this fit estimates as a point; length scales were given."""
    post = small[-1]
    assert (
        post.summary()["value"].to_dict()
        == post.summary(["sigma"])["value"].to_dict()
        == {"sigma": post.raw.params["sigma"]}
    )
    with pytest.raises(ValueError, match=r"No site 'tau': expected some of \['sigma'\]"):
        post.summary(["tau"])


def test_collapse_is_said():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(60, 2))
    with pytest.warns(CollapseWarning, match="restarts collapsed to zero; restart"):
        post = bdl.fit(bdl.FunBaT(modes()), X, rng.normal(size=60), engine=FAST, progress=False)
    assert post.raw.info["collapsed"]
    if post.raw.info["kept"] in post.raw.info["collapsed"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert not post.diagnose().ok


@pytest.mark.slow
def test_functions_of_a_mode(small):
    """They multiply to the prediction, between and outside of the training indexes too; their
    bands and picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    _, X, _, post = small
    new = np.stack([np.linspace(-0.5, 1.5, 9), np.linspace(1.2, -0.2, 9)], 1)
    a, b = (
        bdl.tensor.mode(post, "a").predict(new[:, 0]),
        bdl.tensor.mode(post, "b").predict(new[:, 1]),
    )
    np.testing.assert_allclose((a.mean * b.mean).sum(1), post.predict(new).mean, rtol=1e-8)
    assert a.covariance.shape == (9, 1, 1) and (a.std > 0).all()
    low, high = a.interval(0.9)
    np.testing.assert_allclose(high - low, 2 * 1.6448536 * a.std, rtol=1e-6)
    assert len(bdl.tensor.mode(post, "b").predict().x) == len(np.unique(X[:, 1]))
    assert bdl.tensor.mode(post, "a").predict().plot().get_xlabel() == "a"
    assert (
        repr(bdl.tensor.mode(post, "b"))
        == f"FittedMode(mode='b', indexes={len(np.unique(X[:, 1]))}, rank=1)"
    )
    assert repr(a) == "LatentFunctions(mode='a', indexes=9, rank=1)"
    with pytest.raises(bdl.DataError, match="expected one of 'a', 'b'"):
        bdl.tensor.mode(post, "c")


@pytest.mark.slow
def test_update_goes_on_with_new_indexes(small):
    """New entries at seen and unseen indexes: nearer to a fit of everything than the old one, the
    old entries not run again.
    """
    model, X, y, _ = small
    order = np.argsort(X[:, 1], kind="stable")
    first, later = order[:110], order[110:]
    engine = bdl.MessagePassing(restarts=2)
    old = bdl.fit(model, X[first], y[first], engine=engine, progress=False)
    new = bdl.tensor.update(old, X[later], y[later])
    whole = bdl.fit(model, X, y, engine=engine, progress=False)
    error = [
        np.sqrt(((post.predict(X).mean - whole.predict(X).mean) ** 2).mean()) for post in (old, new)
    ]
    assert error[1] < 0.3 * error[0]
    assert len(new.problem.args[1]) == 150 and new.raw.info["added"] == 40
    twice = bdl.tensor.update(new, X[later][:1], y[later][:1])
    assert twice.raw.info["added"] == 41
    assert "of the fit before 41 entries were added" in repr(twice.diagnose())
    assert "before" not in repr(old.diagnose())


@pytest.mark.slow
def test_updates_of_other_sizes_share_what_was_compiled(small):
    """5 and 9 new rows take one trace, and 5 and then 4 say what all 9 say at once."""
    _, X, y, post = small
    count = streaming.absorb_entries._cache_size()
    first = bdl.tensor.update(post, X[:5] + 0.01, y[:5])
    traces = streaming.absorb_entries._cache_size()
    both = bdl.tensor.update(post, X[:9] + 0.01, y[:9])
    second = bdl.tensor.update(first, X[5:9] + 0.01, y[5:9])
    assert traces == streaming.absorb_entries._cache_size() <= count + 1
    assert len(bdl.tensor.mode(both, "a").predict().x) == len(
        bdl.tensor.mode(second, "a").predict().x
    )
    np.testing.assert_allclose(both.predict(X).mean, second.predict(X).mean, atol=0.02)


def test_update_needs_message_passing():
    X, y, _ = grid_entries(30)
    post = bdl.fit(bdl.BNN(hidden=()), X, y, engine=bdl.Laplace(), progress=False)
    with pytest.raises(bdl.UnsupportedError, match=r"fit bdl\.FunBaT"):
        bdl.tensor.update(post, X, y)
    with pytest.raises(bdl.UnsupportedError, match=r"fit bdl\.FunBaT"):
        bdl.tensor.mode(post, "a")


@pytest.mark.parametrize("sd", [0.0, 0.5, 2.5])
@pytest.mark.parametrize(
    "likelihood", [scalar.Poisson(), scalar.Bernoulli(), scalar.Normal(), scalar.StudentT(5.0)]
)
@pytest.mark.quick_cases(4)
def test_parts_of_the_doubt_about_one_entry(likelihood, sd):
    """f ~ N(0.7, sd^2): Var E[y | f] and the information of a bit about f, against sums over a
    fine grid.
    """
    with jax.enable_x64(True):
        found = float(likelihood.epistemic(jnp.array([0.7]), jnp.array([sd**2]))[0])
    f = 0.7 + sd * (z := np.linspace(-14, 14, 40001))
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    mean = {scalar.Poisson: np.exp, scalar.Bernoulli: lambda f: 1 / (1 + np.exp(-f))}.get(
        type(likelihood), lambda f: f
    )(f)
    expected = weights @ mean**2 - (weights @ mean) ** 2
    if isinstance(likelihood, scalar.Bernoulli):
        expected = (
            stats.bernoulli(weights @ mean).entropy() - weights @ stats.bernoulli(mean).entropy()
        )
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [bdl.Poisson(), bdl.Bernoulli(), bdl.StudentT(df=5.0)])
def test_doubt_has_parts_under_each_likelihood(likelihood):
    """They make the sd, or the entropy; means of far rates are said to be no guide, quantiles are
    one.
    """
    X, _, f = grid_entries(150, (10, 10), noise=0.0)
    rng = np.random.default_rng(0)
    y = (
        rng.poisson(np.exp(1 + f))
        if isinstance(likelihood, bdl.Poisson)
        else f + 0.3 * rng.normal(size=150)
    )
    y = (y > 0).astype(int) if isinstance(likelihood, bdl.Bernoulli) else y
    wide = modes(kernel=Matern32(lengthscale=0.3, variance=4.0))
    post = bdl.fit(
        bdl.FunBaT(wide, likelihood=likelihood, relevance=False), X, y, engine=FAST, progress=False
    )
    near, far = post.predict(X[:4]), post.predict(np.array([[5.0, 5.0], X[0]]))
    parts = near.aleatoric, near.epistemic
    if isinstance(likelihood, bdl.Bernoulli):
        np.testing.assert_allclose(parts[0] + parts[1], -(near.probs * np.log(near.probs)).sum(1))
        assert far.epistemic[0] > far.epistemic[1]
        return
    np.testing.assert_allclose(np.hypot(*parts), near.std)
    assert min(map(np.min, parts)) > 0
    if not isinstance(likelihood, bdl.Poisson):
        return
    assert far.quantile(0.5)[0] < 10
    with pytest.warns(
        TrustWarning, match=r"in 1 of 2 rows the log of the rate has an sd above 2.*quantile\(0.5\)"
    ):
        assert np.isfinite(far.mean).all()
