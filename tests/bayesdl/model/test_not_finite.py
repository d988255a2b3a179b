"""Missing, infinite and complex numbers among the arguments of programs."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError

LAPLACE = bdl.Laplace()
X = np.linspace(-1, 1, 12)
Y = 2 * X
HOLED = np.where(np.arange(12) == 3, np.nan, X)


@pytest.fixture(autouse=True)
def numpyro_promotes_ranks():
    """Users' programs may add arrays of different ranks, as under NumPyro itself."""
    with jax.numpy_rank_promotion("allow"):
        yield


def slope(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 0.3), obs=y)


def of_matrix(x, y=None):
    slope(x @ jnp.ones(2), y)


def of_column(table, y=None):
    slope(table["x"].to_numpy(), y)


def guarded(x, y=None):
    """The value is finite; its gradient is 0 times NaN."""
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jnp.where(jnp.isnan(x), 0.0, b * x), 0.3), obs=y)


def imputed(x, y=None):
    gaps = np.flatnonzero(np.isnan(x))
    with numpyro.plate("gaps", len(gaps)):
        filled = numpyro.sample("filled", dist.Normal(0, 1))
    slope(jnp.asarray(np.nan_to_num(x)).at[gaps].set(filled), y)


def classes(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=b * x), obs=y)


def fit(model, x, y=Y):
    return bdl.fit(model, x, y=y, engine=LAPLACE, progress=False)


REFUSED = {
    "NaN": (slope, HOLED, r"Argument 'x' is NaN in 1 row: row 3\..*Leave these rows out"),
    "infinite": (slope, np.where(X > 0.9, np.inf, X), "Argument 'x' is inf in 1 row: row 11"),
    "matrix": (of_matrix, np.stack([X, HOLED], 1), "Argument 'x' is NaN in 1 row: row 3"),
    "column": (of_column, pd.DataFrame({"x": HOLED, "name": "a"}), r"'table\['x'\]' .*row 3"),
    "gradient": (guarded, HOLED, "or its gradient, is not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_leave_no_density_are_named(case):
    model, x, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        fit(model, x)


def test_missing_numbers_that_the_program_fills_pass():
    problem = bdl.Program(imputed).learn(HOLED, y=Y)[1]
    assert problem.latents == {"filled": (1,), "b": ()}
    unused = pd.DataFrame({"x": X, "other": HOLED})
    assert bdl.Program(of_column).learn(unused, y=Y)[1].latents == {"b": ()}


@pytest.mark.parametrize(("model", "y"), [(slope, Y), (classes, (Y > 0).astype(int))])
def test_new_rows_without_a_prediction_are_named(model, y):
    post = fit(model, X, y)
    with pytest.raises(DataError, match="Argument 'x' is NaN in 2 rows: rows 0, 2"):
        post.predict(np.array([np.nan, 0.5, np.nan]))
    with pytest.raises(DataError, match="Argument 'x' is NaN in 1 row: row 1"):
        post.score(np.array([0.5, np.nan]), y=np.array([1, 0]))


def test_complex_densities_are_refused_and_complex_arguments_kept(tmp_path):
    with pytest.raises(ModelError, match=r"Site 'y' .*complex.*jnp\.abs"):
        fit(slope, X + 1j)
    with pytest.raises(ModelError, match=r"Site 'y' .*complex"):
        fit(slope, X, Y + 1j)

    def size(z, factor, y=None):
        slope(jnp.abs(factor * z), y)

    for z, factor in ((X + 1j * X, 1j), (np.complex64(X), np.complex64(1j))):
        post = bdl.fit(size, z, factor, y=Y, engine=LAPLACE, progress=False)
        back = bdl.load(post.save(tmp_path / "complex.bdl"), size)
        np.testing.assert_array_equal(back.problem.args[0], z)
        assert back.problem.args[1] == factor
        np.testing.assert_array_equal(post.predict().mean, back.predict().mean)
