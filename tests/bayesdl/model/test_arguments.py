"""Arguments reach a NumPyro program as the user gave them, in all verbs."""

import functools
import typing

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError

rng = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(4), 5)
X = np.linspace(-1, 1, 20)
Y = np.array([0.0, 1.0, 2.0, 3.0])[GROUPS] + 0.1 * rng.normal(size=20)
LAPLACE = bdl.Laplace()


def fit(model, *data, **named):
    return bdl.fit(model, *data, engine=LAPLACE, progress=False, **named)


def groups(g, count, y):
    with numpyro.plate("groups", count):
        z = numpyro.sample("z", dist.Normal(0, 5))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(z[g], 0.3), obs=y)


def reads_unique(g, y=None):
    groups(g, len(np.unique(g)), y)


def reads_max(g, y=None):
    groups(g, int(np.max(g)) + 1, y)


def reads_jax_max(g, y=None):
    groups(g, int(jnp.max(g)) + 1, y)


def reads_mask(g, y=None):
    if np.isnan(g).any():
        raise ValueError("no groups")
    groups(g[g >= 0], 4, None if y is None else y[g >= 0])


def known(g, y=None):
    groups(g, 4, y)


def line(x, y=None, scale=1.0):
    a, b = (numpyro.sample(name, dist.Normal(0, 5)) for name in "ab")
    with numpyro.plate("rows", len(x)) as rows:
        y = None if y is None else y[rows]
        numpyro.sample("y", dist.Normal(a + b * x[rows], scale), obs=y)


@pytest.mark.parametrize(
    ("model", "convert"),
    [
        (reads_unique, np.asarray),
        (reads_max, jnp.asarray),
        (reads_jax_max, np.asarray),
        (reads_mask, pd.Series),
    ],
)
@pytest.mark.quick_cases(1)
def test_values_read_in_python(model, convert):
    post = fit(model, convert(GROUPS), y=convert(Y))
    other = fit(known, GROUPS, y=Y)
    np.testing.assert_allclose(post.samples["z"], other.samples["z"], atol=1e-4)
    np.testing.assert_allclose(post.predict().mean, other.predict().mean, atol=1e-4)
    np.testing.assert_allclose(post.predict(GROUPS[::-1]).mean, post.predict().mean[::-1])
    post.diagnose(), post.check_predictive(num_samples=10), post.score(GROUPS, y=Y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # few draws
def test_values_read_in_python_by_samplers_and_checks():
    engine = bdl.NUTS(num_warmup=30, num_samples=30, num_chains=2)
    one, other = (
        bdl.fit(model, GROUPS, y=Y, engine=engine, progress=False) for model in (reads_max, known)
    )
    np.testing.assert_array_equal(one.samples["z"], other.samples["z"])
    names = dict(log_likelihood=True, posterior_predictive=True)
    for group in ("log_likelihood", "posterior_predictive"):
        np.testing.assert_allclose(
            *(post.to_datatree(**names)[group]["y"] for post in (one, other))
        )
    np.testing.assert_allclose(*(post.loo().elpd for post in (one, other)), rtol=1e-5)
    drawn = [
        bdl.prior_predictive(model, GROUPS, y=Y, num_samples=9).y for model in (reads_max, known)
    ]
    np.testing.assert_array_equal(*drawn)
    small = bdl.NUTS(num_warmup=5, num_samples=5, thinning=1)
    bdl.sbc(reads_max, GROUPS, y=Y, num_simulations=20, engine=small, progress=False)


def test_equal_calls_share_what_is_compiled():
    runs = []

    def counted(g, y=None):
        runs.append(type(g))
        groups(g, 4, y)

    def in_python(g, y=None):
        runs.append(type(g))
        reads_unique(g, y)

    for model, new in ((counted, GROUPS[::-1].copy()), (in_python, GROUPS)):
        post = fit(model, GROUPS, y=Y)
        post.predict(GROUPS).mean  # noqa: B018
        post.predict(new).mean  # noqa: B018
        before = len(runs)
        prediction = post.predict(new)
        abstract = len(runs) - before
        prediction.mean  # noqa: B018
        assert len(runs) - before == abstract <= 2


def test_numpy_stays_numpy_where_arrays_are_constants():
    def counts(g, y=None):
        number = np.zeros(4, int)
        np.add.at(number, g, 1)
        assert isinstance(g, np.ndarray)
        groups(g, int((number > 0).sum()), y)

    np.testing.assert_allclose(fit(counts, GROUPS, y=Y).predict().mean.shape, (20,))


class Data(typing.NamedTuple):
    x: np.ndarray
    g: np.ndarray


def of_named(data, y=None):
    line(data.x + 0 * data.g, y)


def of_dict(data, y=None):
    line(data["x"] + 0 * data["g"], y)


def of_list(data, y=None):
    line(data[0] + 0 * data[1], y)


FRAME = pd.DataFrame({"x": X, "g": GROUPS}, index=rng.permutation(20))


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (of_named, Data(X, GROUPS)),
        (of_dict, {"x": X, "g": GROUPS}),
        (of_dict, FRAME),
        (of_dict, FRAME.assign(name="text")),
        (of_list, [X, GROUPS]),
        (of_list, (X, GROUPS)),
        (line, list(X)),
        (line, tuple(X)),
        (line, pd.Series(X, index=FRAME.index)),
        (line, X.astype(np.float32)),
        (line, pd.array(X, dtype="Float64")),
    ],
)
@pytest.mark.quick_cases(3)
def test_arguments_of_any_structure(model, data, tmp_path):
    expected = fit(line, X, y=Y)
    post = fit(model, data, y=Y)
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), model)
    for one in (post, loaded):
        np.testing.assert_allclose(one.predict().mean, expected.predict().mean, atol=1e-4)
        np.testing.assert_allclose(one.predict(data).mean, expected.predict().mean, atol=1e-4)


class Callable:
    def __call__(self, x, y=None):
        line(x, y, 2.0)

    def method(self, x, y=None):
        line(x, y, 2.0)


@handlers.reparam(config={})
def decorated(x, y=None):
    line(x, y, 2.0)


CALLABLES = {
    "partial": functools.partial(line, scale=2.0),
    "handler": decorated,
    "partial of a handler": functools.partial(decorated),
    "object": Callable(),
    "method": Callable().method,
}


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.quick_cases(2)
def test_functions_of_any_kind(name, tmp_path):
    function = CALLABLES[name]
    post = fit(function, X, y=Y)
    expected = fit(lambda x, y=None: line(x, y, 2.0), X, y=Y)
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), function)
    np.testing.assert_allclose(loaded.predict([0.0, 1.0]).mean, expected.predict([0.0, 1.0]).mean)
    assert set(post.score(X, y=Y)) == set(expected.score(X, y=Y))
    with pytest.raises(ModelError, match="The arguments do not fit"):
        fit(function, X, X, X, X, y=Y)


def since_first(t, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", len(t)):
        numpyro.sample("y", dist.Normal(b * (t - t[0]) / 8.64e7, 1.0), obs=y)


MILLISECONDS = np.array([1_700_000_000_000 + 86_400_000 * i for i in range(60)])


def test_double_precision_keeps_digits(tmp_path):
    y = 0.5 * np.arange(60)
    post = fit(since_first, MILLISECONDS, y=y, double=True)
    squares = np.sum(np.arange(60.0) ** 2)
    mean, sd = 0.5 * squares / (1 + squares), (1 + squares) ** -0.5
    assert abs(post.samples["b"].mean() - mean) < 4 * sd / 1000**0.5
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), since_first)
    np.testing.assert_array_equal(loaded.predict().mean, post.predict().mean)
    assert loaded.predict().mean.dtype == np.float64
    np.testing.assert_allclose(loaded.predict().mean, post.samples["b"].mean() * np.arange(60))


@pytest.mark.parametrize(
    "values",
    [
        MILLISECONDS,
        MILLISECONDS[0] + 1e3 * np.arange(60),
        1.7e9 + np.arange(60.0),
        1.7e9 + 3600.0 * np.arange(60),
        2_460_000.5 + np.arange(60) / 24,
        np.array([3_000_000_000, 1]),
        np.array([-3_000_000_000, 1]),
        123_456_789.0 + np.arange(9),
        np.array([1e300, 1.0]),
    ],
)
def test_lost_digits_are_refused(values):
    for data, name in ((values, "t"), ({"t": values}, r"t\['t'\]"), ((values, X), r"t\[0\]")):
        with pytest.raises(DataError, match=rf"Argument '{name}' would lose its digits.*double"):
            fit(since_first, data, y=np.zeros(len(values)))


@pytest.mark.parametrize(
    "values",
    [
        1000 + 1e-3 * rng.normal(size=20),
        rng.uniform(size=100_000),
        1e9 * rng.uniform(size=1000),
        np.array([2**31 - 1, -(2**31)]),
        np.array([2**32 - 1], np.uint32),
        1.7e9 + 86_400.0 * np.arange(60),
        # days in milliseconds: each is known to a minute
        MILLISECONDS.astype(float),
        np.array([np.nan, 1.0, np.inf]),
        np.full(5, 123_456_789.1),
    ],
)
@pytest.mark.quick_cases(3)
def test_harmless_digits_pass(values):
    from bayesdl.data.precision import refuse_lost_digits

    refuse_lost_digits("t", values, False)


def test_dates_are_numpy_dates():
    def by_day(t, y=None):
        line((t - np.datetime64("2024-01-01")) / np.timedelta64(10, "D"), y)

    days = pd.Series(pd.date_range("2024-01-01", periods=20))
    post, expected = fit(by_day, days, y=Y), fit(line, np.arange(20) / 10, y=Y)
    np.testing.assert_allclose(post.predict().mean, expected.predict().mean, atol=1e-4)
    with pytest.raises(ModelError, match=r"line fails in line \d+ with the arguments x datetime64"):
        fit(line, days, y=Y)


def test_text_is_refused():
    for text in (np.array(["a"] * 20), list("ab" * 10), pd.Series(["a"] * 20, dtype="category")):
        with pytest.raises(DataError, match=r"cannot compute with text: got .*category codes"):
            fit(line, text, y=Y)
    with pytest.raises(DataError, match="masked array"):
        fit(line, np.ma.masked_less(X, 0), y=Y)
    with pytest.raises(DataError, match="no column 'z'"):
        fit(lambda d, y=None: line(d["z"], y), FRAME.assign(name="text"), y=Y)


def test_later_changes_of_the_data_leave_the_posterior_alone():
    x = X.copy()
    post = fit(line, x, y=Y)
    before = post.predict().mean
    x[:] = 0
    np.testing.assert_array_equal(post.predict().mean, before)


def test_columns_of_pandas_in_another_order_are_refused():
    x, y = pd.Series(X, index=[f"r{i}" for i in range(20)]), pd.Series(2 * X)
    y.index = x.index
    with pytest.raises(DataError, match=r"x and y have rows with labels in another order.*y\.loc"):
        fit(line, x, y=y[::-1])
    # the same labels, and labels of something else
    fit(line, x, y=y)
    fit(line, x, y=pd.Series(2 * X))


def of_column(read):
    """Return a program of a line through what is read from a table."""

    def program(df, y=None):
        line(jnp.asarray(np.asarray(read(df), float)), y)

    return program


TABLE = pd.DataFrame(
    {
        "x": X,
        "group": np.repeat([3, 1], 10),
        "kind": pd.Categorical(["b", "a"] * 10, categories=["b", "a", "unused"], ordered=True),
        "text": ["u", None, "v", "w"] * 5,
        "day": pd.date_range("2024-01-30", periods=20, tz="Europe/Berlin"),
        "count": pd.array([1, None] * 10, dtype="Int64"),
    },
    index=pd.Index(range(100, 120), name="id"),
)
READERS = {
    "an array": lambda df: df["x"].to_numpy(),
    "an attribute": lambda df: df.x.values,
    "pandas' standard deviation": lambda df: (df.x - df.x.mean()) / df.x.std(),
    "codes of categories": lambda df: df["kind"].cat.codes,
    "codes of text": lambda df: pd.factorize(df["text"])[0],
    "means of groups": lambda df: df.groupby("group")["x"].transform("mean"),
    "days of the year": lambda df: df["day"].dt.day_of_year / 10,
    "dummies": lambda df: pd.get_dummies(df["kind"])["a"],
    "nullable numbers": lambda df: df["count"].fillna(3),
    "a new column": lambda df: df.assign(z=df.x**2)["z"],
    "labels": lambda df: df.loc[df.index, "x"] + df.iloc[0]["x"],
}


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.quick_cases(4)
# readers take means, codes and positions from all rows, which predictions warn of
@pytest.mark.filterwarnings("ignore:In .* depends on which rows are given together")
def test_a_table_of_pandas_reaches_the_program_as_it_is(name, tmp_path):
    """The fit is that of the numbers which the program reads from the table by itself."""
    read = READERS[name]
    post = fit(of_column(read), TABLE, y=Y)
    expected = fit(line, np.asarray(read(TABLE), float), y=Y)
    np.testing.assert_allclose(post.predict().mean, expected.predict().mean, atol=1e-5)
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), of_column(read))
    np.testing.assert_array_equal(loaded.predict().mean, post.predict().mean)
    np.testing.assert_allclose(post.predict(TABLE).mean, post.predict().mean, atol=1e-5)


def test_tables_in_files_are_as_they_were(tmp_path):
    post = fit(of_column(READERS["an array"]), TABLE, y=Y)
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), of_column(READERS["an array"]))
    pd.testing.assert_frame_equal(loaded.problem.args[0], TABLE, check_freq=False)


def test_methods_of_columns_are_those_of_pandas_or_refused():
    column = pd.Series([1.0, 2.0, 4.0])

    def scaled(x, y=None, **settings):
        line(x / x.std(**settings), y)

    expected = fit(line, column.to_numpy() / column.std(), y=Y[:3])
    found = fit(functools.partial(scaled, ddof=1), column, y=Y[:3])
    np.testing.assert_allclose(found.predict().mean, expected.predict().mean, atol=1e-5)
    with pytest.raises(ModelError, match=r"divides by n - 1 in pandas.*ddof=1"):
        fit(scaled, column, y=Y[:3])
    with pytest.raises(ModelError, match="leaves out missing values in pandas"):
        gaps = column.mask(column > 3)
        fit(lambda x, y=None: line(jnp.nan_to_num(x) + x.mean(), y), gaps, y=Y[:3])


def test_a_mean_of_a_table_is_never_that_of_numpy():
    def program(df, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
        with numpyro.plate("rows", len(df)):
            numpyro.sample("y", dist.Normal(df @ w + df.mean(), 1.0), obs=y)

    # pandas cannot multiply by what JAX traces, and NumPy has another mean
    with pytest.raises(ModelError, match=r"mean\(\) of a table .* write mean\(axis=0\)"):
        fit(program, TABLE[["x", "group"]], y=Y)
