"""Effects by hand from the same draws, to 1e-6, and of models that are no formulas."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import bayesdl as bdl
from bayesdl.effects.grids import grid

LAPLACE = bdl.Laplace()


def animals(rows=40):
    random = np.random.default_rng(3)
    x, g = random.normal(size=rows), random.choice(list("abc"), size=rows)
    eta = 0.3 + 0.8 * x + 0.5 * (g == "b")
    return pd.DataFrame({"x": x, "g": g, "hit": random.uniform(size=rows) < 1 / (1 + np.exp(-eta))})


@pytest.fixture(scope="module")
def logistic():
    data = animals()
    model = bdl.Formula("hit ~ x * g", likelihood="bernoulli")
    return data, bdl.fit(model, data, engine=LAPLACE, progress=False)


def probability(post, x, g):
    """P(hit) for each draw, by hand."""
    draws = post.to_pandas()
    eta = draws["Intercept"].to_numpy()[:, None] + draws["x"].to_numpy()[:, None] * x
    for level in "bc":
        inside = (np.asarray(g) == level).astype(float)
        eta = eta + draws[f"g[{level}]"].to_numpy()[:, None] * inside
        eta = eta + draws[f"x:g[{level}]"].to_numpy()[:, None] * inside * x
    return 1 / (1 + np.exp(-eta))


def test_predictions_by_hand(logistic):
    data, post = logistic
    by_hand = probability(post, data.x.to_numpy(), data.g)
    rows = bdl.effects.predictions(post)
    np.testing.assert_allclose(rows.draws, by_hand, atol=1e-6)
    overall = bdl.effects.predictions(post, average=True).to_pandas()
    np.testing.assert_allclose(overall.estimate, [by_hand.mean()], atol=1e-6)
    groups = bdl.effects.predictions(post, by="g").to_pandas()
    for level, row in groups.set_index("g").iterrows():
        means = by_hand[:, data.g == level].mean(1)
        np.testing.assert_allclose(row.estimate, means.mean(), atol=1e-6)
        np.testing.assert_allclose(row["5%"], np.quantile(means, 0.05), atol=1e-6)


def test_a_grid_has_typical_rows(logistic):
    data, post = logistic
    found = bdl.effects.predictions(post, conditional={"g": None}).to_pandas()
    assert list(found.g) == ["a", "b", "c"]
    by_hand = probability(post, np.full(3, data.x.mean()), list("abc")).mean(0)
    np.testing.assert_allclose(found.estimate, by_hand, atol=1e-6)
    assert len(bdl.effects.predictions(post, conditional=["x", "g"])) == 50 * 3


def change(low, high, contrast):
    """The mean over draws of a contrast of means over rows."""
    low, high = low.mean(1), high.mean(1)
    found = {"difference": high - low, "ratio": high / low, "lift": (high - low) / low}
    return found[contrast].mean()


@pytest.mark.parametrize("contrast", ["difference", "ratio", "lift"])
def test_comparisons_by_hand(logistic, contrast):
    data, post = logistic
    found = bdl.effects.comparisons(post, "g", contrast=contrast).to_pandas()
    assert len(found) == 2
    x = data.x.to_numpy()
    low, high = (probability(post, x, [level] * len(x)) for level in "ab")
    np.testing.assert_allclose(found.estimate[0], change(low, high, contrast), atol=1e-6)
    by_number = bdl.effects.comparisons(post, {"x": [-1, 2]}, by="g", contrast=contrast)
    low, high = (probability(post, np.full(len(x), value), data.g) for value in (-1.0, 2.0))
    inside = [np.asarray(data.g == level) for level in "abc"]
    means = [change(low[:, rows], high[:, rows], contrast) for rows in inside]
    np.testing.assert_allclose(by_number.mean, means, atol=1e-6)


def test_slopes_by_hand(logistic):
    """d sigmoid(eta) / dx = p (1 - p) d eta / dx."""
    data, post = logistic
    found = bdl.effects.slopes(post, "x", average=False)
    p, draws = probability(post, data.x.to_numpy(), data.g), post.to_pandas()
    slope = np.tile(draws["x"].to_numpy()[:, None], (1, len(data)))
    for level in "bc":
        slope += draws[f"x:g[{level}]"].to_numpy()[:, None] * (data.g == level).to_numpy()
    np.testing.assert_allclose(found.draws, p * (1 - p) * slope, atol=1e-6)
    one = bdl.effects.slopes(post, "x").to_pandas()
    np.testing.assert_allclose(one.estimate, [(p * (1 - p) * slope).mean()], atol=1e-6)
    assert bdl.effects.slopes(post, "x").plot() is not None


def test_hypotheses_count_draws(logistic):
    _, post = logistic
    draws = post.to_pandas()
    found = post.hypothesis("g[b] - g[c] > 0.5 * x")
    truth = draws["g[b]"] - draws["g[c]"] > 0.5 * draws["x"]
    assert found.probability == pytest.approx(truth.mean())
    assert found.odds == pytest.approx(truth.mean() / (1 - truth.mean()))
    # one set of draws from the prior for all statements, of the sites of the posterior
    assert post._prior_draws is post._prior_draws
    assert set(post._prior_draws) == set(post.samples)
    # the prior is symmetric
    assert abs(post.hypothesis("x > 0").prior_odds - 1) < 4 * 2 / np.sqrt(4000)
    error = found.bayes_factor_error / found.bayes_factor
    p, q = found.probability, (found.prior_draws > 0).mean()
    assert error**2 == pytest.approx((found.mcse / (p * (1 - p))) ** 2 + 1 / (4000 * q * (1 - q)))
    # no draw of the prior is so, or all are
    for statement in ("x > 1000", "abs(x) > -1"):
        found = post.hypothesis(statement)
        assert found.bayes_factor is None
        assert "no Bayes factor (all 4000 draws of the prior agree)" in repr(found)
    with pytest.raises(ValueError, match="did you mean 'x'"):
        post.hypothesis("X > 0")
    with pytest.raises(ValueError, match="expected two sides"):
        post.hypothesis("x")


def test_the_mean_and_the_predictor(logistic):
    data, post = logistic
    by_hand = probability(post, data.x.to_numpy(), data.g)
    mean = post.predict(data, kind="mean")
    np.testing.assert_allclose(mean.draws[..., 1], by_hand, atol=1e-6)
    np.testing.assert_allclose(mean.quantile(0.9)[:, 1], np.quantile(by_hand, 0.9, 0), atol=1e-6)
    eta = post.linear_predictor(data)
    np.testing.assert_allclose(1 / (1 + np.exp(-eta.draws)), by_hand, atol=1e-6)
    with pytest.raises(ValueError, match="expected 'response' or 'mean'"):
        post.predict(data, kind="median")


def test_networks_have_effects():
    data = animals()
    noise = 0.3 * np.random.default_rng(1).normal(size=len(data))
    X, y = data[["x", "g"]], data.x + (data.g == "b") + noise
    post = bdl.fit(bdl.BNN(hidden=(4,)), X, y, engine=bdl.Laplace(), progress=False)
    found = bdl.effects.comparisons(post, "g", data=X)
    rows = [post.predict(X.assign(g=level), kind="mean").draws for level in "abc"]
    np.testing.assert_allclose(found.mean, [(r - rows[0]).mean() for r in rows[1:]], atol=1e-5)
    with pytest.raises(bdl.ModelError, match="linear_predictor is of formulas"):
        post.linear_predictor(X)
    array = np.random.default_rng(0).normal(size=(20, 3))
    array, target = array[:, :2], array[:, 0] + 0.1 * array[:, 2]
    post = bdl.fit(bdl.BNN(hidden=()), array, target, engine=bdl.Laplace(), progress=False)
    assert bdl.effects.slopes(post, "x0", data=array).mean[0] > 0.5


def test_what_effects_refuse(logistic):
    data, post = logistic
    with pytest.raises(bdl.DataError, match="no column 'X': did you mean 'x'"):
        bdl.effects.comparisons(post, "X")
    with pytest.raises(bdl.DataError, match="holds no numbers"):
        bdl.effects.slopes(post, "g")
    with pytest.raises(ValueError, match="expected one of difference"):
        bdl.effects.comparisons(post, "x", contrast="odds")
    process = bdl.fit(bdl.GP(), data[["x"]], data.x, engine=bdl.ExactGP(), progress=False)
    with pytest.raises(ValueError, match="draws that fix the function"):
        process.predict(data[["x"]], kind="mean")
    with pytest.raises(bdl.DataError, match="give the rows"):
        bdl.effects.predictions(process)


@pytest.fixture(scope="module")
def passengers():
    """Data whose columns are called as those of a result, one of them of truth values."""
    random = np.random.default_rng(5)
    rows = 60
    table = pd.DataFrame({"class": np.tile(list("pqr"), 20), "column": random.normal(size=rows)})
    table["std"] = random.normal(size=rows)
    table["old"], table["treated"] = np.tile([True, False], 30), np.tile([0, 0, 1, 1], 15)
    table["z"] = random.uniform(size=rows)
    table["y"] = 2 * (table["class"] == "q") + table.old * table.z + table.treated + table["std"]
    table["y"] += 0.2 * random.normal(size=rows)
    text = "y ~ class + column + std + old * treated + bs(z, df=4)"
    return table, bdl.fit(bdl.Formula(text), table, engine=LAPLACE, progress=False)


@pytest.mark.parametrize("name", ["old", "treated"])
def test_truth_values_go_from_false_to_true(passengers, name):
    data, post = passengers
    low, high = (
        post.predict(data.assign(**{name: value}), kind="mean").draws.mean(1) for value in (0, 1)
    )
    found = bdl.effects.comparisons(post, name)
    np.testing.assert_allclose(found.draws[:, 0], high - low, atol=1e-9)
    # rows that hold only ones
    ones = data[data[name] == 1]
    found = bdl.effects.comparisons(post, name, data=ones, average=False)
    assert len(found) == len(ones)
    low = post.predict(ones.assign(**{name: 0}), kind="mean").draws
    high = post.predict(ones, kind="mean").draws
    np.testing.assert_allclose(found.draws, high - low, atol=1e-9)


def test_columns_are_called_as_those_of_the_result(passengers):
    data, post = passengers
    means = post.predict(data, kind="mean").draws
    found = bdl.effects.predictions(post, average=True)
    np.testing.assert_allclose(found.draws, means.mean(1, keepdims=True), atol=1e-9)
    assert len(bdl.effects.comparisons(post, "old")) == 1
    one = bdl.effects.comparisons(post, "column", by="column", data=data.iloc[:2]).to_pandas()
    np.testing.assert_allclose(one["column_"], sorted(data["column"][:2]))
    groups = bdl.effects.predictions(post, by="class").to_pandas()
    by_hand = [means[:, data["class"] == k].mean() for k in "pqr"]
    np.testing.assert_allclose(groups.estimate, by_hand, atol=1e-9)


def test_numbers_of_groups_are_names():
    """12 schools by number, each with classes of its own, and periods by C(h)."""
    table = pd.DataFrame({"school": np.repeat(np.arange(12) * 10, 6), "h": np.tile([1, 4, 9], 24)})
    table["teacher"] = table.school * 100 + np.tile([1, 1, 1, 2, 2, 2], 12)
    table["x"] = np.linspace(0, 1, 72)
    table["y"] = np.sin(np.arange(72.0))
    model = bdl.Formula("y ~ x + C(h) + (1 | school / teacher)")
    schema = model.learn_schema(table)
    X = schema.matrix(table, "error")
    frame = schema.frame(X)
    np.testing.assert_allclose(schema.matrix(frame, "error"), X)
    for name in ("school", "teacher", "h"):
        assert list(frame[name].cat.categories) == sorted(set(table[name]))
    rows, along = grid(frame, "school")
    assert list(rows.school) == list(range(0, 120, 10))
    # effects of schools, and none of teachers
    read = schema.matrix(rows, model.typical_settings(along)["groups"])
    school, teacher = (term.at for term in schema.plan.terms[-2:])
    np.testing.assert_allclose(read[:, school], np.arange(12))
    np.testing.assert_allclose(read[:, teacher], -1)
    nowhere = schema.matrix(rows, model.typical_settings(("x",))["groups"])
    np.testing.assert_allclose(nowhere[:, school], -1)
    new = grid(frame, {"school": [0, 999]})[0]
    assert list(schema.matrix(new.assign(teacher=1), "sample")[:, school]) == [0, 12]
    with pytest.raises(bdl.DataError, match="Group 999"):
        schema.matrix(new, ("school",))


def test_slopes_stay_inside_of_the_data(passengers):
    data, post = passengers
    found = bdl.effects.slopes(post, "z", average=False)
    order = np.argsort(data.z.to_numpy())[[0, -1]]
    for row, step in zip(order, (1e-3, -1e-3), strict=True):
        rows = data.iloc[[row, row]].assign(z=data.z.iloc[row] + np.array([0, step]))
        ends = post.predict(rows, kind="mean").draws
        by_hand = ((ends[:, 1] - ends[:, 0]) / step).mean()
        np.testing.assert_allclose(found.mean[row], by_hand, rtol=0.05, atol=0.05)
    by = bdl.effects.slopes(post, "std", by="std", data=data.iloc[:1]).to_pandas()
    np.testing.assert_allclose(by["std_"], data["std"][:1])


def test_empty_cells_have_their_place():
    keys = pd.DataFrame({"g": ["a", "b", "c", "b"], "h": ["u", "u", "u", "v"]})
    keys.insert(0, "contrast", "1 / 0")
    draws = np.ones((5, 4)) * [1.0, 2.0, 3.0, 4.0]
    found = bdl.effects.Effects("comparisons", keys.assign(column="x"), draws, ("g", "h"), "y")
    found = dataclasses.replace(found, fixed=("column", "contrast"))
    panel = found.plot()
    assert [text.get_text() for text in panel.get_xticklabels()] == ["a", "b", "c"]
    lines = [line.get_xydata() for line in panel.lines]
    assert any(len(one) == 1 and round(one[0][0]) == 1 and one[0][1] == 4 for one in lines)
    assert any(len(one) == 2 and set(one[:, 1]) == {1.0} for one in lines)
