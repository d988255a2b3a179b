"""Fits of formulas: exact posteriors, names, units, new groups, files."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from formula_toys import NUTS, table

import bayesdl as bdl


def line(rows=40, unit=1.0):
    random = np.random.default_rng(0)
    x = np.arange(rows) * 3.0 + 2000
    return pd.DataFrame({"year": x, "y": unit * (3 + 0.2 * (x - 2000) + random.normal(size=rows))})


def exact(data, sigma):
    """The posterior of (intercept at the mean, slope) in closed form, with the default priors."""
    x, y = data.year - data.year.mean(), data.y
    design = np.column_stack([np.ones(len(x)), x])
    s = y.std(ddof=0)
    sd, centre = np.array([2.5 * s, 2.5 * s / x.std(ddof=0)]), np.array([y.mean(), 0])
    precision = design.T @ design / sigma**2 + np.diag(sd**-2)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (design.T @ y / sigma**2 + centre / sd**2)
    return mean, np.sqrt(np.diag(covariance))


@pytest.mark.parametrize(
    "unit",
    [pytest.param(1.0, marks=pytest.mark.slow), 1e6, pytest.param(1e-6, marks=pytest.mark.slow)],
)
def test_a_straight_line_has_its_exact_posterior_in_any_units(unit):
    """Laplace is exact for a normal posterior."""
    data, sigma = line(unit=unit), unit
    model = bdl.Formula("y ~ year", priors={"sigma": sigma})
    post = bdl.fit(model, data, engine=bdl.Laplace(), progress=False)
    mean, sd = exact(data, sigma)
    draws = {name: post.samples[name].ravel() for name in ("Intercept_centred", "year")}
    for k, values in enumerate(draws.values()):
        assert abs(values.mean() - mean[k]) < 4 * sd[k] / np.sqrt(values.size)
        assert abs(values.std() / sd[k] - 1) < 4 / np.sqrt(2 * values.size)
    at_zero = post.samples["Intercept"].ravel()
    by_hand = draws["Intercept_centred"] - data.year.mean() * draws["year"]
    np.testing.assert_allclose(at_zero, by_hand, rtol=1e-9)
    assert list(post.summary().index) == ["Intercept", "sigma", "year"]


@pytest.fixture(scope="module")
def mixed():
    data = table(80)
    data.index = [f"row {k}" for k in range(80)]
    model = bdl.Formula("y ~ x + C(h) + (x | g)")
    return data, model, bdl.fit(model, data, engine=NUTS, progress=False)


def test_coefficients_and_groups_go_by_their_names(mixed):
    _, _, post = mixed
    rows = list(post.summary().index)
    assert {"Intercept", "x", "C(h)[1]", "C(h)[2]", "sigma", "sd_g[Intercept]"} <= set(rows)
    assert {"r_g[a, x]", "r_g[e, Intercept]", "cor_g[Intercept, x]", "sd_g[x]"} <= set(rows)
    assert not any(row.startswith(("z_", "L_", "Intercept_")) for row in rows)
    tree = post.to_datatree()
    assert tree["posterior/r_g"].dims == ("chain", "draw", "g", "g_effect")
    assert list(tree["posterior/r_g"].coords["g"].values) == list("abcde")
    assert "r_g[a,x]" in post.to_pandas().columns


def test_predictions_keep_the_index_and_need_no_response(mixed):
    data, _, post = mixed
    new = data.iloc[[3, 5]].drop(columns=["y", "z"])
    made = post.predict(new).to_pandas()
    assert list(made.index) == ["row 3", "row 5"]
    np.testing.assert_allclose(post.predict().mean[[3, 5]], made["mean"], rtol=1e-9)


def test_predictions_are_those_of_the_draws(mixed):
    """The mean, by hand from the draws by their names."""
    data, _, post = mixed
    draws = post.to_pandas()
    row = data.iloc[0]
    mean = draws["Intercept"] + draws["x"] * row.x
    mean = mean + (draws[f"C(h)[{row.h}]"] if row.h else 0)
    population = mean.mean()
    mean = mean + draws[f"r_g[{row.g},Intercept]"] + draws[f"r_g[{row.g},x]"] * row.x
    np.testing.assert_allclose(post.predict(data[:1]).mean[0], mean.mean(), rtol=1e-9)
    without = post.predict(data[:1].drop(columns="g"), groups="population")
    np.testing.assert_allclose(without.mean[0], population, rtol=1e-9)


def test_new_groups_are_refused_or_drawn(mixed):
    data, _, post = mixed
    new = data[:40].assign(g="zoe", x=0.0, h=0)
    with pytest.raises(bdl.DataError, match=r"Group 'zoe' of 'g' in row 0 was not in the training"):
        post.predict(new)
    with pytest.raises(bdl.DataError, match="Expected one of error, sample, population"):
        post.predict(new, groups="all")
    with pytest.raises(bdl.DataError, match=r"predict\(group=...\)"):
        post.predict(new, group="sample")
    drawn = post.predict(new, groups="sample")
    # all rows are of one new group, so that they have one effect
    assert np.ptp(drawn.mean) < 1e-9 and np.ptp(drawn.epistemic) < 1e-9
    tau = np.sqrt((post.samples["sd_g"][..., 0] ** 2).mean())
    known = post.predict(new.assign(g="a")).epistemic[0]
    assert drawn.epistemic[0] > known
    apart = np.hypot(tau, post.samples["Intercept"].std())
    assert 0.6 < drawn.epistemic[0] / apart < 1.4
    again = post.predict(new[:7], groups="sample", batch_size=2)
    np.testing.assert_allclose(again.mean, drawn.mean[:7], rtol=1e-9)


def test_unseen_levels_of_fixed_terms_are_refused(mixed):
    data, _, post = mixed
    with pytest.raises(bdl.DataError, match="outside of the nominated levels"):
        post.predict(data[:3].assign(h=7))


def test_files_keep_the_fit(mixed, tmp_path):
    data, model, post = mixed
    back = bdl.load(post.save(tmp_path / "fit.bdl"))
    assert back.model == model
    new = data[:5].drop(columns="y")
    np.testing.assert_array_equal(back.predict(new).mean, post.predict(new).mean)
    assert list(back.summary().index) == list(post.summary().index)


@pytest.mark.slow
def test_splines_and_polynomials_of_files_are_those_of_the_fit(tmp_path):
    data = table()
    text = "y ~ bs(z, df=5) + poly(x, 2) + scale(n) + C(h, contr.sum) + s(x) + (1 | g)"
    model = bdl.Formula(text, priors={"sigma": dist.HalfNormal(3.0)})
    post = bdl.fit(model, data, engine=bdl.Laplace(), progress=False)
    back = bdl.load(post.save(tmp_path / "fit.bdl"))
    new = data[:4].drop(columns="y").assign(z=[1.5, 1.6, 2.0, 2.1])
    np.testing.assert_array_equal(back.predict(new).mean, post.predict(new).mean)


def test_weights_count_rows():
    data = line(12).assign(w=[1, 2, 3] * 4)
    model = bdl.Formula("y ~ year", priors={"sigma": 1.0})
    repeated = data.loc[data.index.repeat(data.w)].reset_index(drop=True)
    one = bdl.fit(model, data, weights="w", engine=bdl.Laplace(), progress=False)
    two = bdl.fit(model, repeated, engine=bdl.Laplace(), progress=False)
    np.testing.assert_allclose(one.predict(data).mean, two.predict(data).mean, rtol=1e-9)


def test_the_scoring_of_held_out_rows():
    data = table()
    post = bdl.fit(bdl.Formula("y ~ x"), data[:40], engine=bdl.Laplace(), progress=False)
    scores = post.score(data[40:])
    error = post.predict(data[40:]).mean - data.y[40:]
    np.testing.assert_allclose(scores["rmse"], np.sqrt((error**2).mean()), rtol=1e-6)
    survival = bdl.Formula("time | cens(lost) ~ x", likelihood="weibull")
    problem = survival.problem(survival.learn_schema(data), data)
    with pytest.raises(bdl.DataError, match="cannot be scored"):
        survival.inputs_and_target(problem, data)


def test_priors_are_listed_and_taken():
    data = table()
    model = bdl.Formula("y ~ x + (x | g)", priors={"x": dist.Normal(0.0, 3.0), "cor_g": 2.0})
    listed = model.priors(data).prior
    assert listed["x"] == "Normal(0, 3)" and listed["cor_g"] == "LKJ(2)"
    s = data.y.std(ddof=0)
    assert listed["Intercept"].startswith(f"Normal({data.y.mean():.4g}, {2.5 * s:.4g})")
    assert listed["sigma"] == f"Exponential({1 / s:.4g})"
