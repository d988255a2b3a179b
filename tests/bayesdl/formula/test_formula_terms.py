"""Terms and their default priors against sums by hand, without a fit."""

import numpy as np
import numpyro.distributions as dist
import pytest
from formula_toys import table

import bayesdl as bdl


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
