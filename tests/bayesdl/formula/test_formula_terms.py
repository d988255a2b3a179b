"""Terms and their default priors against sums by hand, without a fit."""

from typing import Any

import numpy as np
import numpyro.distributions as dist
import pytest
from formula_toys import table
from numpyro.handlers import seed, trace

import bayesdl as bdl
from bayesdl.model.precision import precision_scope


def learned(formula, *others, data=None, **settings):
    """The schema, and the columns that the program takes."""
    data = table() if data is None else data
    schema = bdl.Formula(formula, others, **settings).learn_schema(data)
    return schema, schema.matrix(data, "error")


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("z + log(n)", lambda d: d.z + np.log(d.n)),
        ("log(n) + z", lambda d: d.z + np.log(d.n)),
        ("log(n) + log(z)", lambda d: np.log(d.z) + np.log(d.n)),
        ("z - n", lambda d: d.z - d.n),
        ("z * n", lambda d: d.z * d.n),
        ("(z) + (n)", lambda d: d.z + d.n),
        ("-z", lambda d: -d.z),
        ("log(z + n)", lambda d: np.log(d.z + d.n)),
        ("`a b` + z", lambda d: d["a b"] + d.z),
        ("`a b`", lambda d: d["a b"]),
        ("np.log(n)", lambda d: np.log(d.n)),
        ("2", lambda d: 2.0 + 0 * d.n),
    ],
)
def test_an_offset_is_one_column_whatever_it_is_computed_from(text, by_hand):
    data = table().assign(**{"a b": np.arange(60.0)})
    schema, X = learned(f"y ~ x + offset({text}) + (1 | g)", data=data)
    offset = next(term for term in schema.plan.terms if hasattr(term, "expression"))
    np.testing.assert_allclose(X[:, offset.at], by_hand(data), rtol=1e-12)
    assert offset.width == 1 and offset.at + 1 == schema.width


def test_offsets_are_numbers():
    with pytest.raises((bdl.ModelError, bdl.DataError), match="not one column of numbers"):
        learned("y ~ x + offset(g)")


def test_a_prior_belongs_to_one_site():
    data = table()
    prior = {"x": dist.Normal(0.0, 0.001)}
    listed = bdl.Formula("y ~ x", "sigma ~ x", priors=prior).priors(data).prior
    assert listed["x"] == "Normal(0, 0.001)" and listed["sigma_x"] != "Normal(0, 0.001)"
    listed = bdl.Formula("kind ~ x", likelihood="categorical", priors=prior).priors(data).prior
    assert listed["dog_x"] == listed["eel_x"] == "Normal(0, 0.001)"


def test_priors_over_the_values_of_a_site_are_taken():
    one = {
        "x": dist.Laplace(0.0, 1.0),
        "g": dist.Normal(np.arange(4.0), 1.0),
        "sd_h": dist.HalfCauchy(2.0),
        "sigma": dist.LogNormal(0.0, 1.0),
        "df": dist.Gamma(2.0, 0.1),
        "Intercept": dist.Exponential(1.0),
        "sd_s(z)": dist.Uniform(0.0, 1.0),
    }
    model = bdl.Formula("y ~ x + g + s(z) + (1 | h)", likelihood="student_t", priors=one)
    listed = model.priors(table()).prior
    assert all(listed[name].startswith(type(prior).__name__) for name, prior in one.items())
    fixed = {"df": 1.0, "x": -3}
    listed = bdl.Formula("y ~ x", likelihood="student_t", priors=fixed).priors(table()).prior
    assert listed["df"] == "fixed at 1" and listed["x"] == "fixed at -3"


def intercept(formula, *others, site="Intercept", **settings):
    """The mean and the standard deviation of the default prior of an intercept."""
    text = bdl.Formula(formula, others, **settings).priors(table()).prior[site]
    return tuple(map(float, text.partition("(")[2].partition(")")[0].split(", ")))


def test_the_prior_of_an_intercept_takes_the_offset_into_account():
    data = table()
    found = intercept("count ~ x + offset(log(n))", likelihood="poisson")
    rate = data["count"].mean() / data.n.mean()
    np.testing.assert_allclose(found, (np.log(rate), 2.5), rtol=1e-3)
    y = data.y - 50 * data.z
    found = intercept("y ~ x + offset(50 * z)")
    np.testing.assert_allclose(found, (y.mean(), 2.5 * y.std(ddof=0)), rtol=1e-3)
    listed = bdl.Formula("y ~ x + offset(50 * z)").priors(data).prior
    assert listed["sigma"] == f"Exponential({1 / y.std(ddof=0):.4g})"
    found = intercept("event ~ x + offset(n)", likelihood="bernoulli")
    np.testing.assert_allclose(found, (-data.n.mean(), 2.5), rtol=1e-3)
    found = intercept("y ~ x", "sigma ~ x + offset(z)", site="sigma_Intercept")
    typical = np.log(data.y.std(ddof=0)) - np.log(np.exp(data.z).mean())
    np.testing.assert_allclose(found, (typical, 2.5), rtol=1e-3)


def test_intercepts_hold_at_the_means_of_links():
    data = table()
    centre, sd = intercept("count ~ x", likelihood="poisson", link="softplus")
    mean = data["count"].mean()
    np.testing.assert_allclose(np.log1p(np.exp(centre)), mean, rtol=1e-3)
    slope = 1 - np.exp(-mean)
    np.testing.assert_allclose(sd, 2.5 * data["count"].std(ddof=0) / slope, rtol=1e-3)
    where = {"likelihood": "beta", "site": "precision_Intercept"}
    np.testing.assert_allclose(
        intercept("share ~ x", "precision ~ x", **where), (np.log(15), 2.5), rtol=1e-3
    )
    where = {"likelihood": "student_t", "site": "df_Intercept"}
    np.testing.assert_allclose(intercept("y ~ x", "df ~ x", **where), (np.log(4), 2.5), rtol=1e-3)


def scales(formula, site):
    """The standard deviations of the default priors of a site."""
    terms: list[Any] = bdl.Formula(formula).learn_schema(table()).plan.terms
    for term in terms:
        named = dict(
            zip(getattr(term, "sites", ()), getattr(term, "coefficients", ()), strict=True)
        )
        if hasattr(term, "scale"):
            named[f"sd_{term.group}"] = term.scale
        if site in named:
            return np.ravel(dict(named[site].parameters)["scale"])
    raise AssertionError(site)


def test_without_an_intercept_priors_have_the_size_of_the_response():
    data = table()
    size = 2.5 * np.hypot(data.y.mean(), data.y.std(ddof=0))
    shares = np.array([(data.g == g).mean() for g in "abcde"])
    np.testing.assert_allclose(scales("y ~ 0 + g", "g"), size / np.sqrt(shares), rtol=1e-9)
    rms = np.sqrt((data.x**2).mean())
    np.testing.assert_allclose(scales("y ~ 0 + x", "x"), size / rms, rtol=1e-9)
    # groups have the level of the response where no column has
    np.testing.assert_allclose(scales("y ~ 0 + x + (1 | g)", "sd_g"), size, rtol=1e-9)
    inner = 2.5 * data.y.std(ddof=0)
    np.testing.assert_allclose(scales("y ~ 0 + g + (1 | h)", "sd_h"), inner, rtol=1e-9)
    np.testing.assert_allclose(scales("y ~ x + (1 | g)", "sd_g"), inner, rtol=1e-9)
    np.testing.assert_allclose(scales("y ~ x", "x"), inner / data.x.std(ddof=0), rtol=1e-9)


def run(model, data, predictor=False):
    """The sites of one run of the program, and its distribution of the response."""
    schema = model.learn_schema(data)
    with precision_scope(model):
        problem = model.problem(schema, data)
        program = model._program(problem, predictor=predictor)
        sites = trace(seed(program, 0)).get_trace(*problem.args[:1])
        return {name: np.asarray(site["value"]) for name, site in sites.items()}


def test_the_linear_predictor_of_ordered_classes_belongs_to_the_thresholds():
    model, data = (
        bdl.Formula("grade ~ x + h", likelihood="ordered"),
        table().assign(x=lambda d: 9 + d.x),
    )
    sites = run(model, data, predictor=True)
    np.testing.assert_allclose(sites["y"], data.x * sites["x"] + data.h * sites["h"], rtol=1e-9)
    with precision_scope(model):
        problem = model.problem(model.learn_schema(data), data)
        drawn = trace(seed(problem.program, 0)).get_trace(*problem.args[:1])
        probabilities = np.asarray(drawn["y"]["fn"].probs)
    np.testing.assert_allclose(drawn["thresholds"]["value"], sites["thresholds"], rtol=1e-9)
    below = 1 / (1 + np.exp(sites["y"][:, None] - sites["thresholds"][None]))
    np.testing.assert_allclose(np.cumsum(probabilities, 1)[:, :-1], below, rtol=1e-9)


def test_summaries_show_columns_whatever_they_are_called():
    model = bdl.Formula("y ~ z_score * L_x + (z_score | g)", "sigma ~ z_score")
    shown = ["z_score", "z_score:L_x", "L_x", "sd_g", "sigma_z_score", "Intercept", "r_g"]
    assert all(map(model.shows, shown))
    assert not any(map(model.shows, ["z_g", "L_g", "Intercept_centred", "sigma_Intercept_centred"]))


def test_levels_go_by_their_names():
    data = table().assign(
        odd=lambda d: d.g.replace({"b": "b]", "c": "c, c"}), numbers=lambda d: d.h
    )
    data["numbers"] = data.numbers.astype(object)
    for text, site, labels in (
        ("C(g, levels=list)", "C(g, levels=['a', 'b', 'c', 'd', 'e'])", ("b", "c", "d", "e")),
        ("odd", "odd", ("b]", "c, c", "d", "e")),
        ("C(h) * x", "C(h):x", ("1", "2")),
        ("numbers", "numbers", None),
    ):
        text = text.replace("list", "['a', 'b', 'c', 'd', 'e']")
        schema, _ = learned(f"y ~ {text}", data=data)
        assert bdl.Formula("y ~ x").names(schema).coords.get(f"{site}_level") == labels
    schema, _ = learned("y ~ (C(h) | g)", data=data)
    effects = bdl.Formula("y ~ x").names(schema).coords["g_effect"]
    assert effects == ("Intercept", "C(h)[1]", "C(h)[2]")


def test_what_splines_learn_is_kept():
    data = table()
    for text in ("cr(z, df=4, constraints='center')", "bs(z, df=5)", "poly(z, 2)"):
        schema, X = learned(f"y ~ {text}")
        np.testing.assert_allclose(schema.matrix(data[7:20], "error"), X[7:20], rtol=1e-12)


def test_names_of_sites_are_refused_as_columns():
    for name in ("r_g", "z_g", "Intercept"):
        with pytest.raises(bdl.ModelError, match=f"two quantities would be called '{name}'"):
            learned(f"y ~ {name} + (1 | g)", data=table().assign(**{name: table().x}))


def test_a_smooth_function_is_not_asked_beyond_its_basis():
    data = table()
    schema, _ = learned("y ~ s(z)")
    half, centre = np.ptp(data.z) / 2, (data.z.max() + data.z.min()) / 2
    schema.matrix(data.assign(z=centre + 1.49 * half), "error")
    with pytest.raises(bdl.DataError, match=r"'z', row 0 is .* too far from the training data"):
        schema.matrix(data.assign(z=centre - 1.51 * half), "error")


def test_linear_predictors_go_by_their_names():
    data = table()
    for model, names in (
        (bdl.Formula("y ~ x", "sigma ~ x"), ("mu", "sigma")),
        (bdl.Formula("kind ~ x", likelihood="categorical"), ("dog", "eel")),
        (bdl.Formula("y ~ x"), ()),
    ):
        assert model.predictor_names(model.problem(model.learn_schema(data), data)) == names


def test_names_that_are_the_same_in_python_are_not_printed():
    data = table().assign(x_z=lambda d: d.x**2)
    with pytest.raises(bdl.ModelError, match="'x_z' and 'x:z' have the same name 'x_z'"):
        bdl.Formula("y ~ x_z + x:z").source(data)
    with pytest.raises(bdl.ModelError, match="have the same name 'offset_x___z'"):
        bdl.Formula("y ~ offset(x + z) + offset(x - z)").source(data)


def test_the_printed_program_is_python_whatever_classes_are_called():
    data = table().assign(kind=lambda d: d.kind.replace({"cat": "a", "dog": "big dog"}))
    model = bdl.Formula("kind ~ x", likelihood="categorical")
    compile(model.source(data), "program", "exec")
    assert {"X_big_dog", "X_eel", "y"} == set(model.arrays(data))
