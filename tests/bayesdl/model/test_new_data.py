"""Shapes, rows and indexes are checked before fits and predictions; new groups are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import bayesdl as bdl
from bayesdl.data.validation import DataError
from bayesdl.model.programs.observations import PlateWarning

rng = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(4), 5)
X = np.linspace(-1, 1, 20)
Y = np.array([0.0, 1.0, 2.0, 3.0])[GROUPS] + 0.1 * rng.normal(size=20)
LAPLACE = bdl.Laplace()


@pytest.fixture(autouse=True)
def numpyro_promotes_ranks():
    """NumPyro's multivariate distributions, and its starting points, promote ranks themselves."""
    with jax.numpy_rank_promotion("allow"):
        yield


def fit(model, *data, engine=LAPLACE, **named):
    return bdl.fit(model, *data, engine=engine, progress=False, **named)


def centred(g, y=None, count=4):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.LogNormal(0, 0.5))
    with numpyro.plate("groups", count):
        z = numpyro.sample("z", dist.Normal(mu, tau))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(z[g], 0.3), obs=y)


def non_centred(g, y=None, count=4):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.LogNormal(0, 0.5))
    raw = numpyro.sample("raw", dist.Normal(0, 1).expand([count]).to_event(1))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal((mu + tau * raw)[g], 0.3), obs=y)


def varying(g, x, y=None, count=4):
    scale = numpyro.sample("scale", dist.HalfNormal(1).expand([2]).to_event(1))
    corr = numpyro.sample("corr", dist.LKJCholesky(2, 2.0))
    with numpyro.plate("groups", count):
        b = numpyro.sample(
            "b", dist.MultivariateNormal(jnp.zeros(2), scale_tril=scale[:, None] * corr)
        )
    numpyro.sample("y", dist.Normal(b[g, 0] + b[g, 1] * x, 0.3), obs=y)


def line(x, y=None):
    a, b = (numpyro.sample(name, dist.Normal(0, 5)) for name in "ab")
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + b * x, 1.0), obs=y)


def no_plate(y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def counts(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Poisson(jnp.exp(b * x)), obs=y)


def with_cell(array, index, value):
    changed = np.array(array, float)
    changed[index] = value
    return changed


REFUSED = {
    "column of targets": (line, (X,), Y[:, None], r"\(20, 1\).*\(20,\).*y.ravel\(\)"),
    "column of inputs": (line, (X[:, None],), Y, r"'y' has 20 .*\(20,\).*\(20, 20\)"),
    "short": (line, (X,), Y[:10], r"'y' has 10 observed values of shape \(10,\).*\(20,\)"),
    "one": (line, (X,), Y[:1], r"'y' has 1 observed value of shape \(1,\).*\(20,\)"),
    "scalar": (line, (X,), np.array(1.0), r"'y' has 1 observed value of shape \(\).*\(20,\)"),
    "NaN": (
        line,
        (X,),
        with_cell(Y, [3, 5], np.nan),
        "2 rows of observed values that are NaN: rows 3, 5",
    ),
    "JAX NaN": (line, (X,), jnp.asarray(with_cell(Y, 3, np.nan)), "that are NaN: row 3"),
    "negative count": (
        counts,
        (X,),
        np.r_[np.ones(19, int), -1],
        "outside the support of Poisson.*row 19",
    ),
    "fraction": (counts, (X,), with_cell(np.ones(20), 2, 2.5), "row 2; the first is 2.5"),
    "codes": (centred, (GROUPS + 308,), Y, "'g' .*308, 309.* 4 entries, 0 to 3.*np.unique"),
    "missing code": (centred, (np.where(GROUPS == 1, -1, GROUPS),), Y, r"rows 5, 6.*index -1"),
}


@pytest.mark.parametrize("engine", [LAPLACE, bdl.VI(steps=10), bdl.NUTS(num_warmup=5)])
@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_fit(case, engine):
    model, data, y, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        fit(model, *data, y=y, engine=engine)


def test_hidden_rows_may_be_anything():
    def masked(x, seen, y=None):
        b = numpyro.sample("b", dist.Normal(0, 5))
        with handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(b * x, 1.0), obs=y)

    y, seen = with_cell(Y, 3, -100), np.arange(20) != 3
    post = fit(masked, X, seen, y=y)
    sums = np.sum(X[seen] ** 2) + 1 / 25, np.sum(X[seen] * Y[seen])
    assert abs(post.samples["b"].mean() - sums[1] / sums[0]) < 4 * sums[0] ** -0.5 / 1000**0.5


def test_constants_may_be_observed():
    def constrained(x):
        b = numpyro.sample("b", dist.Normal(0, 1).expand([3]))
        numpyro.sample("sum", dist.Normal(b, 0.1), obs=0.0)
        numpyro.sample("x", dist.Normal(b[0], 1.0).expand([20]), obs=x)

    assert fit(constrained, X).samples["b"].shape[-1] == 3


def test_a_missing_plate_is_said_once_and_expanded():
    with pytest.warns(
        PlateWarning, match=r"'y'.*\(20,\).*\(\).*numpyro.plate\('rows', 20\)"
    ) as seen:
        post = fit(no_plate, y=Y)
    assert len(seen) == 1
    assert post.predict().mean.shape == (20,)
    np.testing.assert_allclose(post.predict().std, post.predict().std[0])
    check = post.check_predictive(num_samples=200)
    assert 0.02 < check.table.loc["mean", "p"] < 0.98
    expected = np.sqrt(np.mean((Y - post.predict().mean) ** 2))
    np.testing.assert_allclose(post.score(y=Y)["rmse"], expected, rtol=1e-5)
    with pytest.warns(PlateWarning):
        drawn = bdl.prior_predictive(no_plate, y=Y, num_samples=50)
    assert abs(drawn.y.std(axis=1).mean() - 1) < 4 / np.sqrt(2 * 20 * 50)


def test_a_missing_plate_follows_the_rows_of_new_data():
    def constant(x, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1)) + 0 * x.sum()
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    with pytest.warns(PlateWarning):
        post = fit(constant, X, y=Y)
    assert post.predict(np.zeros(7)).mean.shape == (7,)


def test_a_program_without_data_says_so(caplog):
    with caplog.at_level("INFO", logger="bayesdl"):
        fit(line, X)
    assert "the program has no data: site 'y' is sampled" in caplog.text


def test_the_number_of_rows_may_come_from_the_data():
    def length(n=None, y=None):
        n = len(y) if y is not None else n
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", n):
            numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    post = fit(length, y=Y)
    assert post.predict().mean.shape == (20,)
    assert post.predict(7).mean.shape == (7,)
    post.diagnose(), post.check_predictive(num_samples=10)


INDEXED = {
    "brackets": lambda z, g: z[g],
    "jax": lambda z, g: z[jnp.asarray(g)],
    "take": lambda z, g: jnp.take(z, g),
    "take along axis": lambda z, g: jnp.take_along_axis(z, g, 0),
    "two": lambda z, g: jnp.stack([z, z], axis=1)[g, 0],
    "one hot": lambda z, g: jax.nn.one_hot(g, 4) @ z,
    "floats": lambda z, g: z[g.astype(float).astype(int)],
    "vmap": lambda z, g: jax.vmap(lambda i: 2 * z[i])(jnp.asarray(g)),
    "scan": lambda z, g: jax.lax.scan(lambda at, i: (at, z[i]), 0, jnp.asarray(g))[1],
}


@pytest.mark.parametrize("how", INDEXED)
@pytest.mark.quick_cases(3)
def test_indexes_out_of_range_are_refused(how):
    def model(g, y=None):
        z = numpyro.sample("z", dist.Normal(0, 5).expand([4]).to_event(1))
        numpyro.sample("y", dist.Normal(INDEXED[how](z, g), 0.3), obs=y)

    post = fit(model, GROUPS, y=Y)
    for wrong, message in ((4, "index 4,"), (9, "index 9,"), (-1, "index -1,")):
        for kind in (np.int64, np.int32, jnp.int32):
            with pytest.raises(DataError, match=rf"'g' \(row 1\) has the {message}.*4 entries"):
                post.predict(
                    jnp.asarray([0, wrong]) if kind is jnp.int32 else np.array([0, wrong], kind)
                )
    assert post.predict([3, 0]).mean.shape == (2,)


def test_indexes_that_are_meant_pass():
    def model(g, y=None):
        z = numpyro.sample("z", dist.Normal(0, 5).expand([4]).to_event(1))
        clipped = z.at[g].get(mode="clip") + z[jnp.clip(g, 0, 3)] + jnp.take(z, g, mode="clip")
        lagged = z[jnp.arange(4) - 1].sum() + z[-1]
        numpyro.sample("y", dist.Normal(clipped + lagged, 0.3), obs=y)

    assert fit(model, GROUPS, y=Y).predict(np.array([0, 3, 9])).mean.shape == (3,)


def test_new_groups_are_refused_or_drawn():
    for model, site in ((centred, "z"), (non_centred, "raw")):
        post = fit(model, GROUPS, y=Y)
        new, mu, tau = np.array([0, 4, 5]), post.samples["mu"][0], post.samples["tau"][0]
        with pytest.raises(
            DataError, match=rf"'{site}' has shape \(6,\).*\(4,\).*new_levels='sample'"
        ):
            post.predict(new, count=6)
        prediction = post.predict(new, count=6, new_levels="sample")
        # y_new | draws ~ N(mu, tau^2 + 0.3^2)
        expected = np.sqrt(mu.var() + np.mean(tau**2) + 0.09)
        assert np.all(np.abs(prediction.std[1:] / expected - 1) < 4 * 3 / np.sqrt(len(mu)))
        error = 4 * np.sqrt(np.mean(tau**2) / len(mu))
        assert np.all(np.abs(prediction.mean[1:] - mu.mean()) < error)
        np.testing.assert_allclose(
            prediction.mean[0], post.predict(np.array([0])).mean[0], rtol=1e-6
        )
        again = post.predict(new, count=6, new_levels="sample")
        np.testing.assert_array_equal(prediction.mean, again.mean)
        with pytest.raises(DataError, match="cannot be told"):
            post.predict(np.array([0]), count=3, new_levels="sample")


def test_new_groups_where_rows_are_summed_out():
    pytest.importorskip("funsor")

    def model(g, y=None, count=4):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        with numpyro.plate("groups", count):
            z = numpyro.sample("z", dist.Normal(mu, 2))
        with numpyro.plate("rows", len(g)):
            odd = numpyro.sample("odd", dist.Bernoulli(0.3))
            numpyro.sample("y", dist.Normal(z[g] + 5 * odd, 0.3), obs=y)

    post = fit(model, GROUPS, y=Y)
    prediction = post.predict(np.array([0, 4]), count=6, new_levels="sample")
    mu = post.samples["mu"][0]
    # y_new | draws ~ 0.7 N(mu, 2^2 + 0.3^2) + 0.3 N(mu + 5, 2^2 + 0.3^2)
    spread = np.sqrt(mu.var() + 4.09 + 25 * 0.21)
    assert abs(prediction.mean[1] - mu.mean() - 1.5) < 4 * 2 / np.sqrt(len(mu))
    assert abs(prediction.std[1] / spread - 1) < 4 * 3 / np.sqrt(len(mu))


def test_groups_whose_class_is_summed_out():
    """The classes of the groups are draws: other numbers of groups are refused, or drawn."""
    pytest.importorskip("funsor")

    def model(n, y=None, count=4):
        mu = numpyro.sample("mu", dist.Normal(jnp.array([-2.0, 2.0]), 0.1).to_event(1))
        with numpyro.plate("groups", count, dim=-2):
            c = numpyro.sample("c", dist.Bernoulli(0.4))
            with numpyro.plate("rows", n):
                numpyro.sample("y", dist.Normal(mu[c], 0.3), obs=y)

    post = fit(model, 5, y=np.array([-2.0, 2, -2, 2])[:, None] + np.zeros((4, 5)))
    with pytest.raises(DataError, match=r"'c' has shape \(6, 1\).*\(4, 1\)"):
        post.predict(3, count=6)
    mean = post.predict(3, count=6, new_levels="sample").mean[:, 0]
    np.testing.assert_allclose(mean[:4], [-2, 2, -2, 2], atol=0.2)
    np.testing.assert_allclose(mean[4:], -0.4, atol=4 * 2 / np.sqrt(len(post.samples["mu"][0])))


@pytest.mark.slow
def test_new_groups_of_vectors():
    engine = bdl.NUTS(num_warmup=50, num_samples=200, num_chains=1)
    post = fit(varying, GROUPS, X, y=Y, engine=engine)
    prediction = post.predict(np.array([4]), np.array([2.0]), count=5, new_levels="sample")
    scale, corr = (post.samples[name][0] for name in ("scale", "corr"))
    root = scale[:, :, None] * corr
    variance = np.sum((root[:, 0] + 2.0 * root[:, 1]) ** 2, axis=-1) + 0.09
    spread = np.sqrt(variance.mean())
    assert abs(prediction.std[0] / spread - 1) < 4 * 3 / np.sqrt(len(scale))


@pytest.mark.slow
def test_rows_that_belong_to_the_training_data():
    def volatility(r=None, n=15):
        n = n if r is None else len(r)
        h = numpyro.sample("h", dist.MultivariateNormal(jnp.zeros(n), jnp.eye(n)))
        numpyro.sample("r", dist.Normal(0, jnp.exp(h / 2)), obs=r)

    def fixed(x, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(b * jnp.arange(20.0), 1.0), obs=y)

    post = fit(volatility, rng.normal(size=15))
    assert post.predict().mean.shape == (15,)
    for rows in (5, 25):
        for new_levels in (None, "sample"):
            with pytest.raises(DataError, match=rf"'h' has shape \({rows},\)"):
                post.predict(n=rows, new_levels=new_levels)
    with pytest.raises(
        DataError, match="20 rows, those of the training data, and the new data have 5"
    ):
        fit(fixed, X, y=Y).predict(np.zeros(5))


@pytest.mark.slow
def test_intervals_of_new_groups_hold():
    """90 % intervals of new groups, from exact draws of mu given known tau, over 200 data sets."""

    def model(g, y=None, count=30):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        with numpyro.plate("groups", count):
            z = numpyro.sample("z", dist.Normal(mu, 1.0))
        with numpyro.plate("rows", len(g)):
            numpyro.sample("y", dist.Normal(z[g], 0.3), obs=y)

    held, simulations, new = 0, 200, 10
    g = np.repeat(np.arange(30), 2)
    random = np.random.default_rng(1)
    for _ in range(simulations):
        mu = 5 * random.normal()
        z = mu + random.normal(size=30 + new)
        post = fit(model, g, y=z[g] + 0.3 * random.normal(size=60))
        fresh = np.arange(30, 30 + new)
        interval = post.predict(fresh, count=30 + new, new_levels="sample").interval(0.9)
        y = z[fresh] + 0.3 * random.normal(size=new)
        held += np.sum((interval[0] < y) & (y < interval[1]))
    assert 0.87 < held / (simulations * new) < 0.93


def test_new_inputs_that_happen_to_be_whole():
    def pairs(x, y=None):
        lower = numpyro.sample("lower", dist.LKJCholesky(2, 1.0))
        b = numpyro.sample("b", dist.Normal(0, 1).expand([2]).to_event(1))
        with numpyro.plate("rows", len(x)):
            mean = jnp.asarray(x)[:, None] * b
            numpyro.sample("y", dist.MultivariateNormal(mean, scale_tril=lower), obs=y)

    x = np.linspace(-1, 1, 12)
    y = np.stack([x, -x], 1) + np.random.default_rng(0).normal(size=(12, 2))
    post = bdl.fit(pairs, x, y=y, engine=bdl.Laplace(), progress=False)
    assert post.predict(np.array([-2.0, 0.0, 2.0])).mean.shape == (3, 2)


def test_new_rows_of_a_site_that_was_partly_seen():
    """Their distribution is that of an unseen row, y ~ N(a + x, 0.3)."""

    def partly_seen(x, y=None, seen=None):
        a = numpyro.sample("a", dist.Normal(0, 5))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(a + x, 0.3), obs=y, obs_mask=seen)

    x, seen = np.linspace(0, 1, 12), np.arange(12) % 3 > 0
    engine = bdl.NUTS(num_warmup=50, num_samples=50, num_chains=1)
    post = bdl.fit(partly_seen, x, y=np.where(seen, 1 + x, 0.0), seen=seen, engine=engine)
    a, new = np.ravel(post.samples["a"]), np.array([3.0, -2.0, 0.5])
    pred = post.predict(new)
    np.testing.assert_allclose(pred.mean, a.mean() + new, rtol=1e-4)
    np.testing.assert_allclose(pred.std, np.sqrt(np.var(a) + 0.09) * np.ones(3), rtol=1e-4)
