"""Names of dimensions and entries: given, by plates, stored, and for any name of a site."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from drawn_posteriors import drawn
from numpyro.handlers import scope

import bayesdl as bdl
from bayesdl.data.validation import DataError
from bayesdl.model.names import Names, entry_labels, learn_names, site_dims
from inference.core.problem import Problem

GROUP = np.repeat(np.arange(3), 6)
X = np.tile(np.linspace(-1, 1, 6), 3)
Y = GROUP + 0.5 * X + 0.2 * np.cos(37 * np.arange(18))
PEOPLE = {"subject": ["Ann", "Finn", "Zoe"]}
ENGINE = bdl.Laplace()


def varying(group, x, y=None):
    slopes = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.sample("L", dist.LKJCholesky(2, 2.0))
    with numpyro.plate("subject", 3):
        z = numpyro.sample("z", dist.Normal(0, 2))
        numpyro.deterministic("twice", 2 * z)
    b = scope(lambda: numpyro.sample("b", dist.Normal(0, 1)), "slope")()
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(z[group] + (b + slopes.sum()) * x, 0.3), obs=y)


def awkward(y=None):
    for name in ("chain", "draw", "a.b", "net $params", "Größe", "z_dim_0"):
        numpyro.sample(name, dist.Normal(0, 1))
    numpyro.sample("a/b", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("draw/row", 4):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(z, 1), obs=y)


@pytest.fixture(scope="module")
def post():
    dims = {"w": ["term"]}
    coords = PEOPLE | {"term": ["linear", "square"], "rows": [f"r{i}" for i in range(18)]}
    return drawn(varying, GROUP, X, y=Y, coords=coords, dims=dims)


def test_rows_of_a_summary_have_labels(post):
    table = post.summary()
    assert set(table.index) == {
        *("L[0, 0]", "L[0, 1]", "L[1, 0]", "L[1, 1]", "slope/b"),
        *(f"{site}[{name}]" for site in "wz" for name in _labels(site)),
    }
    finn = post.samples["z"][..., 1]
    assert table.loc["z[Finn]", "mean"] == pytest.approx(finn.mean(), rel=1e-5)
    assert table.loc["w[square]", "mean"] == pytest.approx(post.samples["w"][..., 1].mean(), 1e-5)
    assert "z[Finn]" in post.to_pandas() and "slope/b" in post.to_pandas()


def _labels(site):
    return ("linear", "square") if site == "w" else PEOPLE["subject"]


def test_a_datatree_has_dimensions_and_labels(post):
    tree = post.to_datatree(log_likelihood=True, log_prior=True, posterior_predictive=True)
    draws = tree["posterior"]
    assert draws["z"].dims == ("chain", "draw", "subject")
    assert site_dims(post.problem, post.names)["twice"] == ("subject",)
    assert draws["L"].dims[2:] == ("L_dim_0", "L_dim_1")
    np.testing.assert_array_equal(draws["z"].sel(subject="Finn"), post.samples["z"][..., 1])
    np.testing.assert_array_equal(draws["slope.b"], post.samples["slope/b"])
    for group in ("log_likelihood", "posterior_predictive"):
        assert tree[group]["y"].dims == ("chain", "draw", "rows")
    assert float(tree["observed_data"]["y"].sel(rows="r3")) == pytest.approx(Y[3])


def test_names_are_in_the_file(post, tmp_path):
    again = bdl.load(post.save(tmp_path / "a.bdl"), varying)
    assert again.names == post.names
    assert list(again.summary().index) == list(post.summary().index)


def test_predictions_of_training_rows_have_labels(post):
    assert list(post.predict().to_pandas().index[:2]) == ["r0", "r1"]
    assert list(post.predict(GROUP[:2], X[:2]).to_pandas().index) == [0, 1]


def test_pictures_have_labels_and_no_constants(post):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [panel.get_xlabel() for panel in bdl.plots.posterior(post)]
    assert shown[0] == "slope/b" and "z[Finn]" in shown
    # the upper corner of L is always zero
    assert "L[1,0]" in shown and "L[0,1]" not in shown
    plt.close("all")


@pytest.mark.parametrize(
    "names", [{}, {"coords": {"draw/row": list("abcd")}}], ids=["plain", "labels"]
)
@pytest.mark.quick_cases(1)
def test_any_name_of_a_site_works(names, tmp_path):
    y = np.arange(4.0)
    post = drawn(awkward, y=y, **names)
    table = post.summary()
    assert {"chain", "draw", "a.b", "a/b[0]", "net $params", "Größe", "z_dim_0"} <= set(table.index)
    assert ("z[c]" in table.index) == bool(names)
    tree = post.to_datatree(log_likelihood=True, posterior_predictive=True)
    for site, name in {"a.b": "a.b", "a/b": "a.b_", "chain": "chain_"}.items():
        np.testing.assert_array_equal(tree["posterior"][name], post.samples[site])
    post.to_arviz()
    again = bdl.load(post.save(tmp_path / "a.bdl"), awkward)
    for site, values in post.samples.items():
        np.testing.assert_array_equal(again.samples[site], values)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"coords": {"subjct": ["a"]}}, r"no site has a dimension 'subjct'.*'subject'"),
        ({"coords": {"subject": ["a", "b"]}}, r"2 labels, .*of site 'z' has 3 entries"),
        ({"coords": {"subject": ["a", "b", "a"]}}, "label 'a' twice"),
        ({"coords": {"subject": "abc"}}, "expected a list of labels"),
        ({"coords": ["a"]}, "expected a dictionary"),
        ({"dims": {"q": ["s"]}}, r"no site 'q'; the sites are"),
        ({"dims": {"z": ["s", "t"]}}, r"has 2 names, and site 'z' has 1 dimensions"),
        ({"dims": {"L": ["k", "k"]}}, "names two dimensions alike"),
        ({"dims": {"w": "subject"}}, "has 2 entries in site 'w' and 3 in site 'z'"),
    ],
)
def test_wrong_names_are_refused(names, said):
    problem = Problem(varying, (GROUP, X), {"y": Y})
    with pytest.raises(DataError, match=said):
        learn_names(problem, names.get("coords"), names.get("dims"))


def test_plates_of_one_name_and_two_sizes():
    def program():
        with numpyro.plate("g", 3):
            numpyro.sample("a", dist.Normal(0, 1))
        with numpyro.plate("g", 2):
            numpyro.sample("b", dist.Normal(0, 1))

    problem = Problem(program)
    assert site_dims(problem, Names()) == {"a": ("g",), "b": ("b_dim_0",)}
    with pytest.raises(DataError, match="of site 'b' has 2 entries"):
        learn_names(problem, {"g": list("xyz")}, None)


def test_nested_plates_and_events():
    def program():
        with numpyro.plate("row", 4, dim=-2), numpyro.plate("column", 3, dim=-1):
            numpyro.sample("m", dist.Normal(0, 1).expand([2]).to_event(1))

    names = learn_names(Problem(program), {"column": [10, 20, 30]}, {"m": [None, None, "kind"]})
    dims = site_dims(Problem(program), names)
    assert dims == {"m": ("row", "column", "kind")}
    labels = entry_labels("m", (4, 3, 2), dims, names)
    assert labels[:3] == ["m[0,10,0]", "m[0,10,1]", "m[0,20,0]"]


def test_a_program_may_have_arguments_called_coords_and_dims():
    def program(coords, dims, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", len(coords)):
            numpyro.sample("y", dist.Normal(dims * b * coords, 0.3), obs=y)

    fit = bdl.fit(program, coords=X, dims=2.0, y=3 * X, engine=ENGINE, progress=False)
    precision = 1 + (2 * X) @ (2 * X) / 0.09
    expected = (2 * X) @ (3 * X) / 0.09 / precision
    assert fit.samples["b"].mean() == pytest.approx(expected, abs=5 * precision**-0.5 / 1000**0.5)
    assert fit.names == Names()
