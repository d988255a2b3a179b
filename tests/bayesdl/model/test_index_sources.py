"""Group codes are checked wherever a program takes them from: tables, columns, closures."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayesdl as bdl
from bayesdl.data.validation import DataError

rng = np.random.default_rng(0)
TABLE = pd.DataFrame({"g": np.repeat(np.arange(4), 5), "x": rng.normal(size=20)})
Y = np.array([0.0, 1.0, 2.0, 30.0])[TABLE["g"]] + 0.1 * rng.normal(size=20)
LAPLACE = bdl.Laplace()


@pytest.fixture(autouse=True)
def numpyro_promotes_ranks():
    """Users' programs may add arrays of different ranks, as under NumPyro itself."""
    with jax.numpy_rank_promotion("allow"):
        yield


def effects(read):
    """Return a program of a table, whose rows' effects are read as told."""

    def model(table, y=None):
        with numpyro.plate("groups", 4):
            z = numpyro.sample("z", dist.Normal(0, 10))
        with numpyro.plate("rows", len(table)):
            numpyro.sample("y", dist.Normal(read(table, z), 0.3), obs=y)

    return model


READ = {
    "to_numpy": lambda table, z: z[table["g"].to_numpy()],
    "values": lambda table, z: z[table["g"].values],
    "matrix": lambda table, z: z[table.values[:, 0].astype(int)],
    "jnp.asarray": lambda table, z: z[jnp.asarray(table["g"])],
    "iloc": lambda table, z: z[table.iloc[:, 0].to_numpy()],
    "another type": lambda table, z: z[table.g.astype("int16").to_numpy()],
    "take": lambda table, z: jnp.take(z, table["g"].to_numpy()),
    "one-hot": lambda table, z: jax.nn.one_hot(table["g"].to_numpy(), 4) @ z,
    "vmap": lambda table, z: jax.vmap(lambda i: z[i])(table["g"].to_numpy()),
    "column": lambda table, z: z[table["g"]],
}


@pytest.mark.parametrize("how", READ)
def test_codes_out_of_a_table_are_checked(how):
    post = bdl.fit(effects(READ[how]), TABLE, y=Y, engine=LAPLACE, progress=False)
    np.testing.assert_allclose(post.predict(TABLE.iloc[15:]).mean, 30, atol=0.5)
    for code in (7, -1):
        new = TABLE.assign(g=[*TABLE["g"][:-1], code])
        for call in (
            post.predict,
            lambda table: post.score(table, y=Y),
            lambda table: post.predict(table, new_levels="sample"),
        ):
            with pytest.raises(DataError, match=rf"'table\['g'\]' \(row 19\) .* index {code}, "):
                call(new)


@pytest.mark.parametrize("how", ["to_numpy", "jnp.asarray", "matrix"])
def test_codes_out_of_a_table_are_checked_before_the_fit(how):
    with pytest.raises(DataError, match=r"'table\['g'\]' \(rows 15, 16, .* index 4, "):
        bdl.fit(effects(READ[how]), TABLE.assign(g=TABLE.g + 1), y=Y, engine=LAPLACE)


def closed_over(codes):
    """Return a program that reads its codes from outside."""

    def model(x, y=None):
        with numpyro.plate("groups", 4):
            z = numpyro.sample("z", dist.Normal(0, 10))
        with numpyro.plate("rows", 20):
            numpyro.sample("y", dist.Normal(z[codes] + 0 * x, 0.3), obs=y)

    return model


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("engine", [LAPLACE, bdl.VI(steps=200)])
def test_codes_from_outside_are_read_in_any_precision(convert, engine):
    model = closed_over(convert(TABLE["g"]))
    post = bdl.fit(model, TABLE["x"].to_numpy(), y=Y, engine=engine, progress=False)
    assert post.predict().mean.shape == (20,)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_codes_from_outside_are_checked(convert):
    with pytest.raises(DataError, match=r"An index of model has the index 4, .* 4 entries"):
        bdl.fit(closed_over(convert(TABLE["g"] + 1)), TABLE["x"].to_numpy(), y=Y, engine=LAPLACE)


CODES = TABLE["g"].to_numpy()


def helper(z):
    return z[CODES]


def reads_a_global(x, y=None):
    with numpyro.plate("groups", 4):
        z = numpyro.sample("z", dist.Normal(0, 10))
    with numpyro.plate("rows", 20):
        numpyro.sample("y", dist.Normal(helper(z) + 0 * x, 0.3), obs=y)


def test_a_helper_that_reads_a_global_array_runs_in_any_precision():
    post = bdl.fit(reads_a_global, TABLE["x"].to_numpy(), y=Y, engine=LAPLACE, progress=False)
    np.testing.assert_allclose(post.predict().mean[15:], 30, atol=0.5)
