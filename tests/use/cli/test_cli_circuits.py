"""`bayesdl impute` and `bayesdl outliers` on a small table, against the same calls in Python."""

import numpy as np
import pandas as pd
import pytest
from cli_toys import answer, refused

import bayesdl as bdl
from bayesdl.cli import main as cli


@pytest.fixture(scope="module")
def penguins(tmp_path_factory):
    """A table with an id, missing cells, and the mass of row 7 in hectograms."""
    random = np.random.default_rng(0)
    kind = random.choice(["Adelie", "Gentoo"], 80)
    x = random.normal(size=80) + 3 * (kind == "Gentoo")
    table = pd.DataFrame(
        {
            "kind": kind,
            "length": (200 + 10 * x).round(1),
            "mass": (4000 + 300 * x + 90 * random.normal(size=80)).round(),
        }
    )
    table.loc[7] = ["Gentoo", 230.0, 49.0]
    holes = random.random(table.shape) < 0.1
    holes[7] = False
    table = table.mask(holes)
    table.insert(0, "id", [f"p{i}" for i in range(80)])
    path = tmp_path_factory.mktemp("circuits") / "penguins.csv"
    table.to_csv(path, index=False)
    return path, table


@pytest.fixture(scope="module")
def saved(penguins):
    """A circuit that `impute` saved, and what it printed."""
    path, _ = penguins
    out, bundle = path.with_name("filled.csv"), path.with_name("table.bdl")
    options = ["--drop", "id", "--set", "states=1", "--seed", "3", "--save", bundle]
    assert cli.main([*map(str, ("impute", path, "-o", out, *options))]) == 0
    return bundle, out


def test_impute_is_fill(penguins, saved):
    path, table = penguins
    bundle, out = saved
    model = bdl.Circuit(states=1)
    post = bdl.fit(model, pd.read_csv(path), drop=["id"], seed=3, progress=False)
    expected = post.fill(pd.read_csv(path))
    filled = pd.read_csv(out)
    pd.testing.assert_frame_equal(filled, expected)
    assert not filled.isna().any(axis=None) and list(filled.columns) == list(table.columns)
    pd.testing.assert_frame_equal(bdl.load(bundle).fill(pd.read_csv(path)), expected)


def test_impute_several_times(penguins, saved, capsys):
    path, table = penguins
    out = path.with_name("draws.csv")
    result = answer(
        capsys, "impute", path, "--bundle", saved[0], "--draws", 2, "--seed", 5, "-o", out
    )
    drawn = pd.read_csv(out)
    assert result["filled"] == {k: int(n) for k, n in table.isna().sum().items() if n}
    assert drawn["draw"].tolist() == [1] * 80 + [2] * 80
    tables = bdl.load(saved[0]).impute(pd.read_csv(path), draws=2, seed=5)
    expected = pd.concat(tables, ignore_index=True)
    pd.testing.assert_frame_equal(drawn.drop(columns="draw"), expected)


def test_outliers_say_where_and_what_was_expected(penguins, saved, capsys):
    path, _ = penguins
    out = path.with_name("surprises.csv")
    result = answer(capsys, "outliers", path, "--bundle", saved[0], "--top", 3, "-o", out)
    worst = result["cells"][0]
    assert (worst["row"], worst["column"], worst["value"]) == (7, "mass", 49.0)
    assert 3500 < worst["expected"] < 6500
    assert len(result["cells"]) == len(result["rows"]) == 3 and result["rows"][0]["row"] == 7
    found = bdl.load(saved[0]).outliers(pd.read_csv(path))
    written = pd.read_csv(out)
    np.testing.assert_allclose(written["surprise"], found.rows)
    np.testing.assert_allclose(written["surprise of mass"], found.cells["mass"])
    assert worst["surprise"] == pytest.approx(found.cells.max(axis=None))
    # a person reads the line of the file
    assert cli.main(["outliers", str(path), "--bundle", str(saved[0]), "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "line 9" in shown and "mass" in shown


def test_what_the_shell_refuses(penguins, saved, capsys, fitted):
    path, table = penguins
    out = path.with_name("no.csv")
    assert "leave it out by --drop id" in refused(capsys, "impute", path, "-o", out)
    said = refused(capsys, "impute", path, "--bundle", saved[0], "--set", "states=2", "-o", out)
    assert "--bundle FILE is learned already" in said
    said = refused(capsys, "impute", path, "--drop", "id", "--set", "stats=2", "-o", out)
    assert "no such setting" in said and "model.states" in said
    assert "expected one" in refused(capsys, "outliers", path, "--bundle", fitted)
    other = path.with_name("other.csv")
    table.assign(kind="Emperor").to_csv(other, index=False)
    said = refused(capsys, "impute", other, "--bundle", saved[0], "-o", out)
    assert "unseen category 'Emperor'" in said
    table.assign(draw=1).to_csv(other, index=False)
    said = refused(capsys, "impute", other, "--bundle", saved[0], "--draws", 2, "-o", out)
    assert "has a column 'draw' already" in said
    assert not out.exists()
