"""One clear error for each kind of mistake: what was got, what was expected, the cure."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from formula_toys import table

import bayesdl as bdl
from bayesdl.formula.parsing import parse

ZEROS = {"likelihood": "zero_inflated_poisson"}
POSITIVE = "expected positive numbers.* such as dist.HalfNormal"


def spoiled():
    """The table with columns that something is wrong with."""
    data = table()
    data = data.assign(
        one="a",
        const=1.0,
        rare=["u" if g == "a" else "v" for g in data.g],
        holes=[np.nan, *data.x[1:]],
        sigma=data.x,
        log=data.z,
        complex=data.x + 1j,
    )
    return data.assign(reaction=data.y)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x +", "does not parse at character 8: a term is missing"),
        ("y x", "at character 4: got 0 '~'"),
        ("y ~ (x | g", "at character 5: this '\\(' is never closed"),
        ("y ~ x)", "at character 6: this '\\)' closes nothing"),
        ("y ~ (1 | )", "expected a group term such as"),
        ("y ~ s(x):z", "stands alone"),
        ("y ~ x - (1 | g)", "cannot be subtracted"),
        ("y ~ s(x, k=3)", "got 'k=3'"),
        ("~ x", "no response"),
        ("log(y) ~ x", "expected the name of a column"),
        ("y | size(n) ~ x", "expected trials"),
        ("y ~ z + x**2", r"at character 9: .* x itself; write I\(x\*\*2\)"),
        ("y ~ log(z)^2", r"write I\(log\(z\)\*\*2\)"),
        ("y ~ (x:x | g)", "x itself"),
        ("y ~ s(x, m=1)", "m=2 functions or more"),
    ],
)
def test_formulas_that_do_not_parse(formula, words):
    with pytest.raises(bdl.ModelError, match=words) as error:
        bdl.Formula(formula)
    assert str(error.value).endswith("^") and formula in str(error.value)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ X", "no column 'X': did you mean 'x'"),
        ("reactoin ~ x", "did you mean 'reaction'"),
        ("y ~ os.system('ls')", "no function that formulas know"),
        ("y ~ lg(z)", "did you mean 'log'"),
        ("y ~ x.mean()", "no function that formulas know"),
        ("y ~ x | g", "put group terms in brackets"),
        ("y ~ log(x)", "'log\\(x\\)' is not a finite number in row"),
        ("y ~ x + (1 | one)", "'one' has one level, 'a'"),
        ("y ~ x + I(2 * x)", "'I\\(2 \\* x\\)' and \\['x'\\] are collinear"),
        ("y ~ const", "'const' is constant"),
        ("y ~ g:rare", "interaction 'g.*' is empty"),
        ("y ~ x + (const | g)", "a slope needs a column that varies"),
        ("y ~ mo(g)", "needs an ordered factor"),
        ("y ~ s(g)", "needs a column of numbers"),
        ("y ~ s(const)", "needs a column that varies"),
        ("y ~ holes", "'holes', row 0 is missing"),
        ("y ~ sigma", "two quantities would be called 'sigma'"),
        ("y ~ (1 | g) + (x | g)", "'Intercept' of 'g' is in two group terms"),
        ("const ~ x", "The response 'const' is constant"),
        ("y ~ log(y)", "the response 'y' is on both sides"),
        ("y ~ (1 | g:y)", "the response 'y' is on both sides"),
        ("y ~ x + .", "has a '.'"),
        ("y ~ log(log)", "the column 'log' and the function log"),
        ("y ~ cr(z, df=4)", "constraints='center'"),
        ("y ~ complex", "Complex data not supported"),
    ],
)
def test_data_that_do_not_fit_the_formula(formula, words):
    with pytest.raises((bdl.DataError, bdl.ModelError), match=words):
        bdl.Formula(formula).learn_schema(spoiled())


@pytest.mark.parametrize(
    ("formula", "settings", "words"),
    [
        ("y ~ x", {"likelihood": "poisson"}, r"is 109.151 in row 0 .*whole numbers >= 0"),
        ("y ~ x", {"likelihood": "beta"}, "numbers between 0 and 1"),
        ("y ~ x", {"likelihood": "gauss"}, "expected one of 'normal'"),
        ("y ~ x", {"link": "log2"}, "takes one of 'identity'"),
        ("hits ~ x", {"likelihood": "binomial"}, "needs numbers of trials"),
        ("n | trials(hits) ~ x", {"likelihood": "binomial"}, "in row 0, of"),
        ("hits | trials(n) ~ x", {"likelihood": "poisson"}, "belong to likelihood='binomial'"),
        ("time | cens(lost) ~ x", {"likelihood": "beta"}, "takes no censored rows"),
        ("kind ~ x", {"likelihood": "ordered"}, "needs the order of"),
        ("kind ~ x", {"likelihood": "bernoulli"}, "two classes"),
        ("y ~ x", {"priors": {"z": dist.Normal(0, 1)}}, "the formula has no 'z'"),
        ("y ~ x", {"priors": {"x": "wide"}}, "expected a NumPyro distribution"),
        ("y ~ (1 | g)", {"priors": {"sd_g": dist.Normal(0, 1)}}, POSITIVE),
        ("y ~ (1 | g)", {"priors": {"sd_g": dist.Uniform(-0.5, 0.5)}}, POSITIVE),
        ("y ~ s(z)", {"priors": {"length_s(z)": dist.Normal(0, 1)}}, POSITIVE),
        ("y ~ x", {"priors": {"sigma": -1}}, r"\['sigma'\]=-1: expected positive numbers"),
        ("y ~ x", {"priors": {"sigma": 0.0}}, "expected positive numbers"),
        ("y ~ x", {"priors": {"sigma": dist.Poisson(3.0)}}, "expected positive numbers"),
        ("y ~ x", {"priors": {"x": dist.Normal(np.zeros(2), 1)}}, "expected real numbers, one of"),
        ("y ~ g", {"priors": {"g": dist.Normal(np.zeros(2), 1)}}, "one or 4 of them"),
        ("zeros ~ x", ZEROS | {"priors": {"zi": dist.Gamma(1, 1)}}, "numbers between 0 and 1"),
        ("zeros ~ x", ZEROS | {"priors": {"zi": 1.5}}, "numbers between 0 and 1"),
        ("y ~ (x | g)", {"priors": {"cor_g": -1.0}}, "a positive number"),
        ("y ~ x", {"parameters": "tau ~ x"}, "has no parameter 'tau'"),
        ("y ~ x", {"likelihood": bdl.Normal("heteroscedastic")}, "a formula of its own"),
    ],
)
def test_settings_that_do_not_fit(formula, settings, words):
    with pytest.raises((bdl.DataError, bdl.ModelError), match=words):
        bdl.Formula(formula, **settings).learn_schema(spoiled())


def test_an_unseen_level_is_refused_by_its_row():
    model, data = bdl.Formula("y ~ g"), table()
    schema = model.learn_schema(data)
    new = data[:5].assign(g=["a", "b", "zoe", "a", "yve"])
    with pytest.raises(bdl.DataError, match="'g', row 2 has the level 'zoe'"):
        schema.matrix(new, "error")
    whole = model.learn_schema(data.assign(g=pd.Categorical(data.h)))
    same = whole.matrix(data.assign(g=data.h.astype(float)), "error")
    np.testing.assert_array_equal(same[:, :2], np.eye(3)[data.h][:, 1:])


def test_data_are_one_table_with_names():
    model = bdl.Formula("y ~ x")
    with pytest.raises(bdl.DataError, match="takes one table with all columns"):
        bdl.fit(model, np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(bdl.DataError, match="names columns"):
        bdl.fit(model, np.zeros((3, 2)))
    with pytest.raises(bdl.DataError, match="no rows"):
        bdl.fit(model, pd.DataFrame({"x": [], "y": []}))
    with pytest.raises(bdl.DataError, match="expected True"):
        survival = bdl.Formula("time | cens(n) ~ x", likelihood="weibull")
        bdl.fit(survival, table())


def test_what_formulas_are_taken_apart_into():
    response, predictor = parse("k | trials(n) ~ x*z - 1 + (x || a/b) + s(t, m=9) + offset(log(n))")
    assert (response.name, response.trials) == ("k", "n")
    assert predictor.fixed == "+ x*z - 1"
    assert [group.factors for group in predictor.groups] == [("a",), ("a", "b")]
    assert not any(group.correlated for group in predictor.groups)
    assert predictor.calls[0].settings == (("m", 9.0),)
    assert predictor.offsets == ("log(n)",)
