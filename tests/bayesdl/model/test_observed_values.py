"""What a site observes is scored, predictions know their rows, and messages name what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.distributions.transforms import OrderedTransform
from scipy import stats

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError
from bayesdl.saving.archive import BundleError
from bayesdl.warnings import TrustWarning
from inference.core.problem import ProblemError

rng = np.random.default_rng(0)
X = rng.normal(size=30)
INCOME = np.exp(1 + X + 0.1 * rng.normal(size=30))
COUNTS = rng.poisson(np.exp(X))
LAPLACE = bdl.Laplace()


@pytest.fixture(autouse=True)
def numpyro_promotes_ranks():
    """Users' programs may add arrays of different ranks, as under NumPyro itself."""
    with jax.numpy_rank_promotion("allow"):
        yield


def fit(model, *data, **named):
    return bdl.fit(model, *data, engine=named.pop("engine", LAPLACE), progress=False, **named)


def log_of_y(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + x, 0.1), obs=None if y is None else jnp.log(y))


def log_of_income(x, income=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    logs = None if income is None else np.log(income)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("logs", dist.Normal(a + x, 0.1), obs=logs)


def column_of_table(x, table=None):
    log_of_income(x, None if table is None else table["income"].to_numpy())


@pytest.mark.parametrize(
    ("model", "name", "y"),
    [
        (log_of_y, "y", INCOME),
        (log_of_income, "income", INCOME),
        (column_of_table, "table", pd.DataFrame({"income": INCOME})),
    ],
)
def test_the_value_that_a_site_observes_is_scored(model, name, y):
    post = fit(model, X, **{name: y})
    found, prediction = post.score(X, **{name: y}), post.predict(X)
    logs = np.log(INCOME)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((logs - prediction.mean) ** 2)), rel=1e-4)
    normal = stats.norm(prediction.mean, prediction.std)
    assert found["nll"] == pytest.approx(-normal.logpdf(logs).mean(), abs=0.02)


def poisson(exposure, x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(exposure * jnp.exp(a + x)), obs=y)


def test_targets_outside_the_support_are_refused_in_score_too():
    post = fit(poisson, np.ones(30), X, y=COUNTS)
    wrong = np.where(np.arange(30) == 5, -1, COUNTS)
    with pytest.raises(DataError, match=r"outside the support of Poisson .*: row 5"):
        post.score(np.ones(30), X, y=wrong)


@pytest.mark.parametrize("value", [-1.0, -0.01])
def test_a_negative_rate_is_no_prediction(value):
    post = fit(poisson, np.ones(30), X, y=COUNTS)
    exposure = np.where(np.arange(30) == 4, value, 1.0)
    for ask in (
        lambda p: p.mean,
        lambda p: p.interval(0.9),
        lambda p: p.sample(5),
        lambda p: p.log_prob(COUNTS),
    ):
        with pytest.raises(DataError, match=r"'rate' .* outside its range in row 4, at 1000 of"):
            ask(post.predict(exposure, X))
    with pytest.raises(DataError, match=r"'rate' .* outside its range in row 4, at 1000 of"):
        post.score(exposure, X, y=COUNTS)


def test_a_rate_that_becomes_nan_is_no_prediction():
    def of_log(x, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Poisson(jnp.exp(b * jnp.log(x))), obs=y)

    post = fit(of_log, np.exp(X), y=COUNTS)
    with pytest.raises(DataError, match=r"'rate' of the predicted distribution is NaN .* row 0"):
        post.predict(np.array([-1.0, 1.0, 2.0])).interval()


@pytest.mark.parametrize("engine", [LAPLACE, bdl.NUTS(num_warmup=5), bdl.VI(steps=5)])
def test_rows_that_no_draw_can_explain_are_named(engine):
    exposure = np.where(np.isin(np.arange(30), [3, 7]), 0.0, 1.0)
    y = np.where(np.isin(np.arange(30), [3, 7]), 2, COUNTS)
    with pytest.raises(ProblemError, match="site 'y' in rows 3, 7 had no density"):
        fit(poisson, exposure, X, y=y, engine=engine)


def by_column(table, y=None):
    log_of_y(table["x"].to_numpy(), y)


def test_a_missing_column_and_a_table_without_rows_are_said():
    table = pd.DataFrame({"z": X})
    with pytest.raises(ModelError, match=r"KeyError: 'x'\. 'table' has the columns z\.$"):
        fit(by_column, table, y=INCOME)
    with pytest.raises(ModelError, match="Argument 'table' has no rows"):
        fit(by_column, table.assign(x=X)[:0], y=INCOME[:0])


def test_a_process_written_as_one_event_says_that_its_predictions_know_no_data():
    def process(x, y=None):
        scale = numpyro.sample("scale", dist.LogNormal(0, 1))
        cov = jnp.exp(-(((x[:, None] - x) / scale) ** 2) / 2) + 0.01 * jnp.eye(len(x))
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), cov), obs=y)

    post = fit(process, X, y=X)
    with pytest.warns(TrustWarning, match="'y' is one draw of MultivariateNormal with 30 entries"):
        post.predict()


def test_load_compares_predictions_too(tmp_path):
    def program(factor):
        def model(x, y=None):
            mean = numpyro.sample("a", dist.Normal(0, 2)) + x
            with numpyro.plate("rows", len(x)):
                scaled = mean if y is not None else factor * mean
                numpyro.sample("y", dist.Normal(scaled, 0.1), obs=y)

        return model

    path = fit(program(1.0), X, y=X).save(tmp_path / "a.bdl")
    bdl.load(path, program(1.0))
    with pytest.raises(BundleError, match="without its observations, site 'y': log density"):
        bdl.load(path, program(2.0))


@pytest.mark.parametrize("data_seed", range(4))
def test_laplace_finds_the_mode_of_ordered_cut_points_from_any_seed(data_seed):
    def ordinal(x, y=None):
        b = numpyro.sample("b", dist.Normal(0, 2))
        base = dist.Normal(0, 1).expand([3])
        cuts = numpyro.sample("cuts", dist.TransformedDistribution(base, OrderedTransform()))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.OrderedLogistic(b * x, cuts), obs=y)

    drawn = np.random.default_rng(data_seed)
    x = drawn.normal(size=200)
    y = np.searchsorted([-1, 0, 1.5], 1.2 * x + drawn.logistic(size=200))
    modes = [fit(ordinal, x, y=y, seed=s).raw.arrays()["params/loc"] for s in (0, 1)]
    np.testing.assert_allclose(modes[0], modes[1], atol=0.01)
