"""What users ask of `bdl.Circuit`: exact answers about a table, against each other and by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

import bayesdl as bdl


@pytest.fixture(scope="module")
def binary():
    """A fit of five yes and no columns, and all rows that there may be."""
    random = np.random.default_rng(0)
    x = random.integers(0, 2, 300)
    table = np.stack([x ^ (random.random(300) < 0.1 * j) for j in range(1, 6)], 1).astype(float)
    post = bdl.fit(bdl.Circuit(states=2, trees=1), table, progress=False)
    return post, np.array(list(itertools.product((0.0, 1.0), repeat=5)))


@pytest.fixture(scope="module")
def mixed():
    """A fit of a mixed table with missing cells, and the table."""
    random = np.random.default_rng(0)
    kind = random.choice(["a", "b"], 120)
    x = random.normal(size=120) + 3 * (kind == "b")
    table = pd.DataFrame(
        {
            "kind": kind,
            "length": 200 + 10 * x,
            "mass": 4000 + 300 * x + 90 * random.normal(size=120),
        }
    )
    whole = table.copy()
    table = table.mask(random.random(table.shape) < 0.15)
    model = bdl.Circuit(states=2, blocks=[["kind", "length", "mass"]])
    return bdl.fit(model, table, progress=False), table, whole


def test_the_density_of_all_rows_is_one(binary):
    post, rows = binary
    np.testing.assert_allclose(np.exp(post.density(rows)).sum(), 1.0, atol=1e-10)


def test_conditionals_and_completions_by_enumeration(binary):
    post, rows = binary
    p = np.exp(post.density(rows))
    row = np.array([[1.0, np.nan, np.nan, 0.0, np.nan]])
    fits = ((rows == row) | np.isnan(row)).all(1)
    np.testing.assert_allclose(np.exp(post.density(row)), p[fits].sum(), atol=1e-10)
    for column in (1, 2, 4):
        expected = p[fits & (rows[:, column] == 1)].sum() / p[fits].sum()
        found = post.predict(row, of=f"x{column}").probs[0, 1]
        np.testing.assert_allclose(found, expected, atol=1e-10)
    best = rows[fits][p[fits].argmax()]
    np.testing.assert_array_equal(post.most_probable(row)[0], best)
    alone = post.marginal(["x0", "x3"]).density(np.where(np.isnan(row), 0.0, row))
    both = p[(rows[:, 0] == 1) & (rows[:, 3] == 0)].sum()
    np.testing.assert_allclose(np.exp(alone), both, atol=1e-10)


def test_samples_by_chi_square(binary):
    post, rows = binary
    drawn = post.sample(4000, given={"x0": 1}).to_numpy(float)
    assert (drawn[:, 0] == 1).all()
    p = np.exp(post.density(rows))[rows[:, 0] == 1]
    counts = (drawn[:, None] == rows[rows[:, 0] == 1]).all(-1).sum(0)
    # twenty circuits stand behind the rows, so that counts vary more than those of one
    expected = 4000 * p / p.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 15 + 5 * np.sqrt(30) + 4000 * 0.01


def test_numbers_and_categories_with_missing_cells(mixed):
    post, table, whole = mixed
    length = post.predict(table, of="length")
    assert np.corrcoef(length.mean, whole["length"])[0, 1] > 0.8
    low, high = length.interval(0.9)
    inside = ((whole["length"] >= low) & (whole["length"] <= high)).mean()
    assert inside > 0.9 - 4 * np.sqrt(0.09 / 120)
    assert (length.epistemic > 0).all()
    label = post.predict(table, of="kind").label
    assert (label == whole["kind"]).mean() > 0.8
    assert post.score(whole, of="mass")["rmse"] < 0.6 * whole["mass"].std()


def test_imputations_keep_what_is_known(mixed):
    post, table, _ = mixed
    one, other = post.impute(table, draws=2)
    missing = table.isna()
    assert not one.isna().any(axis=None)
    assert one.mask(missing).equals(table)
    assert (one["mass"] != other["mass"])[missing["mass"]].all()
    again = post.impute(table, draws=2)[0]
    pd.testing.assert_frame_equal(one, again)


def test_densities_are_in_units_of_the_columns(mixed):
    post, table, _ = mixed
    grams, kilograms = table, table.assign(mass=table["mass"] / 1000)
    other = bdl.fit(post.model, kilograms, progress=False)
    seen = table["mass"].notna().to_numpy()
    gained = other.density(kilograms) - post.density(grams)
    np.testing.assert_allclose(gained, np.log(1000) * seen, atol=1e-6)
    # how surprising a cell is does not depend on units
    ours, theirs = post.outliers(grams), other.outliers(kilograms)
    np.testing.assert_allclose(ours.cells, theirs.cells, atol=1e-6)
    np.testing.assert_allclose(ours.rows, theirs.rows, atol=1e-6)


def test_surprising_cells(mixed):
    post, _, whole = mixed
    rows = whole.head(5).copy()
    rows.loc[2, "mass"] = 9000.0
    found = post.outliers(rows)
    assert found.worst(1).iloc[0, :2].tolist() == [2, "mass"]
    assert found.rows.argmax() == 2
    ratio = post.density(rows.assign(mass=np.nan)) - post.density(rows)
    # in units of the column's standard deviation
    unit = np.log(post.schema.columns[2].scale)
    np.testing.assert_allclose(found.cells["mass"], ratio - unit, atol=1e-8)
    some = post.outliers(rows.assign(mass=np.nan)).worst(99)
    assert len(some) == 10 and "mass" not in set(some["column"])


def test_what_depends_on_what(mixed):
    found = mixed[0].dependence()
    assert found.loc["length", "mass"] > 0.3
    np.testing.assert_allclose(found, found.T)
    panel = bdl.plots.dependence(found)
    shades = np.asarray(panel.images[0].get_array())
    expected = np.sqrt(1 - np.exp(-2 * found.loc["length", "mass"]))
    np.testing.assert_allclose(shades[1, 2], expected)
    assert f"{expected:.2f}" in [text.get_text() for text in panel.texts]
    with pytest.raises(ValueError, match="expected the same names"):
        bdl.plots.dependence(found.head(2))


def test_files_give_the_same_answers(mixed, tmp_path):
    post, table, _ = mixed
    back = bdl.load(post.save(tmp_path / "table.bdl"))
    np.testing.assert_array_equal(back.density(table), post.density(table))
    pd.testing.assert_frame_equal(back.impute(table, 1)[0], post.impute(table, 1)[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"e": np.nan}, "Column 'e' has no value"),
        ({"e": 1.5}, "Column 'e' is constant"),
        ({"e": [f"id{i}" for i in range(120)]}, "120 different texts"),
        ({"mass": np.inf}, "Column 'mass', row 0 is infinity"),
    ],
)
def test_tables_that_cannot_be_learned(mixed, change, words):
    with pytest.raises(bdl.DataError, match=words):
        bdl.fit(mixed[0].model, mixed[1].assign(**change), progress=False)


def test_questions_that_cannot_be_answered(mixed):
    post, table, whole = mixed
    with pytest.raises(bdl.DataError, match="unseen category 'c'"):
        post.density(table.assign(kind="c"))
    with pytest.raises(bdl.DataError, match="row 0 is not a number"):
        post.density(table.assign(mass="heavy"))
    with pytest.raises(bdl.ModelError, match="no such column"):
        post.predict(table, of="masses")
    with pytest.raises(bdl.ModelError, match="Which column"):
        post.predict(table)
    with pytest.raises(bdl.DataError, match="as many as states"):
        bdl.fit(bdl.Circuit(states=500), whole, progress=False)
    with pytest.raises(bdl.DataError, match="a circuit takes one"):
        bdl.fit(bdl.Circuit(), whole, whole["mass"], progress=False)
    with pytest.raises(AttributeError, match="impute"):
        _ = bdl.fit(bdl.GP(), whole[["mass"]], whole["length"], progress=False).impute
