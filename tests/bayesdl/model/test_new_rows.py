"""Programs with an effect for each row: the training rows' effects are no other rows' effects."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.reparam import LocScaleReparam

import bayesdl as bdl
from bayesdl.data.validation import DataError
from bayesdl.warnings import TrustWarning

ROWS = 30
rng = np.random.default_rng(0)
X, OTHER = rng.normal(size=(2, ROWS))
Y = rng.poisson(np.exp(1 + 0.5 * X + 0.7 * rng.normal(size=ROWS)))
NUTS = bdl.NUTS(num_warmup=100, num_samples=100, num_chains=1)


@pytest.fixture(autouse=True)
def numpyro_promotes_ranks():
    """Users' programs may add arrays of different ranks, as under NumPyro itself."""
    with jax.numpy_rank_promotion("allow"):
        yield


def with_plate(x, y=None):
    a, sd = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("sd", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        e = numpyro.sample("e", dist.Normal(0, sd))
        numpyro.sample("y", dist.Poisson(jnp.exp(a + 0.5 * x + e)), obs=y)


def as_event(x, y=None):
    a, sd = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("sd", dist.HalfNormal(1))
    e = numpyro.sample("e", dist.Normal(0, 1).expand([len(x)]).to_event(1))
    numpyro.sample("y", dist.Poisson(jnp.exp(a + 0.5 * x + sd * e)).to_event(1), obs=y)


@handlers.reparam(config={"e": LocScaleReparam(0)})
def reparametrised(x, y=None):
    return with_plate(x, y)


def of_table(table, y=None):
    return with_plate(table["x"].to_numpy(), y)


def of_rows_that_are_numbered(x, y=None):
    """The number of rows is no argument, so that the program runs with these rows alone."""
    sd = numpyro.sample("sd", dist.HalfNormal(1))
    with numpyro.plate("rows", ROWS):
        e = numpyro.sample("e", dist.Normal(0, sd))
        numpyro.sample("y", dist.Poisson(jnp.exp(1 + 0.5 * x + e)), obs=y)


FOLLOWING = {
    "plate": (with_plate, "e", False),
    "event": (as_event, "e", False),
    "reparametrised": (reparametrised, "e_decentered", False),
    "table": (of_table, "e", True),
    "number of rows in the program": (of_rows_that_are_numbered, "e", False),
}


def given(x, as_table):
    return pd.DataFrame({"x": x}) if as_table else x


@pytest.mark.parametrize("case", FOLLOWING)
def test_other_rows_are_refused_or_drawn_anew(case):
    model, site, as_table = FOLLOWING[case]
    post = bdl.fit(model, given(X, as_table), y=Y, engine=NUTS, progress=False)
    train = post.predict()
    same = post.predict(given(X, as_table))
    np.testing.assert_array_equal(train.mean, same.mean)
    # as many rows may be the same units at other inputs
    for call in (post.predict, lambda x: post.score(x, y=Y)):
        with pytest.warns(TrustWarning, match=rf"'{site}' has an entry for each training row.*new"):
            call(given(OTHER, as_table))
    if model is not of_rows_that_are_numbered:
        with pytest.raises(DataError, match=rf"'{site}' has an entry for each training row.*new_l"):
            post.predict(given(OTHER[:5], as_table))
    anew = post.predict(given(OTHER, as_table), new_levels="sample")
    # the effect of a new row has mean zero: E[y | x] rises with x alone
    order = np.argsort(OTHER)
    assert np.corrcoef(np.log(anew.mean[order]), OTHER[order])[0, 1] > 0.9
    assert np.isfinite(post.score(given(OTHER, as_table), y=Y, new_levels="sample")["nll"])


def test_any_number_of_rows_is_drawn_anew_and_rows_are_alike():
    post = bdl.fit(with_plate, X, y=Y, engine=NUTS, progress=False)
    many = post.predict(np.zeros(3 * ROWS), new_levels="sample")
    few = post.predict(np.zeros(2), new_levels="sample")
    # E[y | x = 0] of each row, over 100 draws of its own effect
    error = many.std / np.sqrt(100)
    assert np.all(np.abs(many.mean - many.mean.mean()) < 6 * error.mean())
    assert few.mean.shape == (2,)


def process(x, y=None):
    cov = jnp.exp(-((x[:, None] - x) ** 2) / 2) + 1e-3 * jnp.eye(len(x))
    f = numpyro.sample("f", dist.MultivariateNormal(jnp.zeros(len(x)), cov))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(jnp.exp(f)), obs=y)


def walk(x, y=None):
    def step(before, x):
        h = numpyro.sample("h", dist.Normal(0.9 * before, 0.3))
        return h, h

    _, h = scan(step, 0.0, x)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(jnp.exp(h + 0.5 * x)), obs=y)


@pytest.mark.parametrize(("model", "why"), [(process, "depend on each other"), (walk, "a scan")])
def test_effects_that_depend_on_each_other_are_not_drawn_anew(model, why):
    post = bdl.fit(model, X, y=Y, engine=NUTS, progress=False)
    assert post.predict(X).mean.shape == (ROWS,)
    with pytest.raises(DataError, match=why):
        post.predict(OTHER, new_levels="sample")


def test_a_process_at_other_inputs_is_another_one_and_a_walk_with_other_inputs_is_not():
    post = bdl.fit(process, X, y=Y, engine=NUTS, progress=False)
    with pytest.raises(DataError, match="'f' has an entry for each training row"):
        post.predict(OTHER)
    post = bdl.fit(walk, X, y=Y, engine=NUTS, progress=False)
    with pytest.warns(TrustWarning, match=r"'h' has an entry .* the same units in the same order"):
        post.predict(OTHER)


def test_what_another_site_says_of_the_rows_is_not_left_out():
    def with_error(measured, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", len(measured)):
            x = numpyro.sample("x", dist.Normal(0, 1))
            numpyro.sample("measured", dist.Normal(x, 0.3), obs=measured)
            numpyro.sample("y", dist.Poisson(jnp.exp(b * x)), obs=y)

    post = bdl.fit(with_error, X, y=Y, engine=NUTS, progress=False)
    assert post.predict(X, site="y").mean.shape == (ROWS,)
    for settings in ({}, {"new_levels": "sample"}):
        with pytest.raises(DataError, match="at site 'measured' would be left out"):
            post.predict(OTHER, site="y", **settings)


def test_effects_of_as_many_groups_as_rows_stay_those_of_groups():
    def grouped(g, x, y=None):
        with numpyro.plate("groups", ROWS):
            u = numpyro.sample("u", dist.Normal(0, 1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Poisson(jnp.exp(u[g] + 0.5 * x)), obs=y)

    groups = np.arange(ROWS)
    post = bdl.fit(grouped, groups, X, y=Y, engine=NUTS, progress=False)
    back = post.predict(groups[::-1], X[::-1])
    np.testing.assert_allclose(back.mean[::-1], post.predict().mean, rtol=1e-4)


def test_weights_of_as_many_units_as_rows_belong_to_no_row():
    def network(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([ROWS]).to_event(1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Poisson(jnp.exp(jnp.tanh(x[:, None] * w).mean(1))), obs=y)

    post = bdl.fit(network, X, y=Y, engine=NUTS, progress=False)
    assert post.predict(OTHER).mean.shape == (ROWS,)


def centred(x, y=None):
    slope(x - x.mean(), y)


def numbered(g, y=None):
    codes = np.unique(np.asarray(g), return_inverse=True)[1]
    with numpyro.plate("groups", 3):
        z = numpyro.sample("z", dist.Normal(0, 1))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(z[codes], 1), obs=y)


def counted(x, y=None):
    slope(jnp.arange(len(x)) + 0 * x, y)


def of_category(table, y=None):
    numbered(table["g"].astype("category").cat.codes.to_numpy(), y)


def slope(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 1), obs=y)


GROUP = np.repeat(np.arange(3), 10)
TOGETHER = {
    "mean": (centred, 3 + X),
    "codes": (numbered, GROUP),
    "positions": (counted, X),
    "categories": (of_category, pd.DataFrame({"g": GROUP})),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_what_a_program_takes_from_all_rows_is_said_to_change(case):
    model, data = TOGETHER[case]
    post = bdl.fit(model, data, y=X, engine=bdl.Laplace(), progress=False)
    post.predict()
    with pytest.warns(TrustWarning, match="depends on which rows are given"):
        post.predict(data[:5])


@pytest.mark.parametrize(
    ("model", "data"), [(slope, X), (with_plate, X), (of_table, pd.DataFrame({"x": X}))]
)
def test_rows_that_stand_alone_are_predicted_without_a_word(model, data):
    post = bdl.fit(model, data, y=Y, engine=NUTS, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        post.predict(data[:5], new_levels="sample")


def target_scaled(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    scaled = None if y is None else (y - y.mean()) / y.std()
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 1), obs=scaled)


def test_a_target_that_is_scaled_by_its_rows_is_said_to_change():
    post = bdl.fit(target_scaled, X, y=Y, engine=bdl.Laplace(), progress=False)
    with pytest.warns(TrustWarning, match="depends on which rows are given"):
        post.score(X[:8], y=Y[:8])


def levels_counted(g, y=None):
    levels, codes = np.unique(np.asarray(g), return_inverse=True)
    with numpyro.plate("groups", len(levels)):
        z = numpyro.sample("z", dist.Normal(0, 1))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(z[codes], 1), obs=y)


def test_new_groups_that_take_the_numbers_of_others_are_refused():
    post = bdl.fit(levels_counted, 10 * GROUP, y=X, engine=bdl.Laplace(), progress=False)
    few, train = post.predict(np.array([0, 10, 20])), post.predict()
    np.testing.assert_allclose(few.mean, train.mean[::10], rtol=1e-4, atol=1e-6)
    with pytest.raises(
        DataError, match=r"'z' .* and \(4,\) at both together: .* numbers the groups"
    ):
        post.predict(np.array([10, 20, 30]))


def with_gaps(x, y=None):
    b, gaps = numpyro.sample("b", dist.Normal(0, 2)), np.flatnonzero(np.isnan(x))
    with numpyro.plate("gaps", len(gaps)):
        filled = numpyro.sample("filled", dist.Normal(0, 1))
    whole = jnp.asarray(np.nan_to_num(x)).at[gaps].set(filled)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * whole, 0.3), obs=y)


def test_missing_cells_of_other_rows_are_not_those_of_the_training_rows():
    holed = np.where(np.isin(np.arange(ROWS), [3, 7]), np.nan, X)
    post = bdl.fit(with_gaps, holed, y=2 * X, engine=NUTS, progress=False)
    assert post.predict(holed).mean.shape == (ROWS,)
    new = np.array([1.0, np.nan, np.nan])
    with pytest.raises(DataError, match="'filled' has an entry"):
        post.predict(new)
    prediction = post.predict(new, new_levels="sample")
    # y = 2 x + e with x ~ N(0, 1): mean 0 and sd 2 where x is missing, over 100 draws
    assert np.all(np.abs(prediction.mean - [2, 0, 0]) < 4 * 2 / np.sqrt(100))
    assert np.all(prediction.std[1:] > 1.4)


def test_columns_of_a_table_are_put_in_the_order_of_the_fit():
    def linear(table, y=None):
        w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
        with numpyro.plate("rows", len(table)):
            numpyro.sample("y", dist.Normal(table.to_numpy() @ w, 1), obs=y)

    table = pd.DataFrame({"u": X, "v": OTHER})
    post = bdl.fit(linear, table, y=3 * X + OTHER, engine=bdl.Laplace(), progress=False)
    other = post.predict(table[["v", "u"]])
    np.testing.assert_array_equal(other.mean, post.predict(table).mean)


def exposed(x, exposure=None, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    rate = jnp.exp(a + x) if exposure is None else exposure * jnp.exp(a + x)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def test_one_row_does_not_count_for_several_and_a_left_out_argument_is_named():
    post = bdl.fit(exposed, X, np.full(ROWS, 2.0), y=Y, engine=bdl.Laplace(), progress=False)
    with pytest.raises(DataError, match=r"'exposure'.* has 1 row and argument .*'x'.* has 3"):
        post.predict(X[:3], np.ones(1))
    with pytest.warns(TrustWarning, match="'exposure' was given in the fit"):
        post.predict(X[:3])


def test_rows_that_an_obs_mask_leaves_unseen_are_no_effects_of_rows():
    def partly(x, seen=None, y=None):
        b = numpyro.sample("b", dist.Normal(0, 2))
        seen = np.ones(len(x), bool) if seen is None else seen
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(b * x, 0.3), obs=y, obs_mask=seen)

    seen = np.arange(ROWS) % 5 != 0
    post = bdl.fit(partly, X, seen, y=2 * X, engine=NUTS, progress=False)
    np.testing.assert_allclose(post.predict(X[3:9]).mean, 2 * X[3:9], atol=0.5)
    assert post.score(X[3:9], y=2 * X[3:9])["rmse"] < 0.5
