"""Hashes of arguments, and the log density of a problem in both precisions."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from inference.arguments import ConstantTable, join_static, split_static
from inference.core.fingerprint import hash_arguments
from inference.core.problem import Problem

TABLE = pd.DataFrame({"x": np.arange(200.0), "name": ["a", "b"] * 100})


@pytest.mark.parametrize(
    "other",
    [
        TABLE.assign(x=TABLE.x.where(TABLE.x != 100, -1.0)),
        TABLE.assign(name=TABLE.name.where(TABLE.x != 100, "c")),
        TABLE.rename(columns={"x": "z"}),
        TABLE.set_axis(range(1, 201)),
        TABLE.astype({"x": "float32"}),
    ],
    ids=["a number", "a word", "a name", "the index", "a type"],
)
def test_a_table_is_hashed_whole(other):
    """The text of a long table leaves out the rows in its middle."""
    assert hash_arguments((TABLE,), {}) == hash_arguments((TABLE.copy(),), {})
    assert hash_arguments((TABLE,), {}) != hash_arguments((other,), {})
    assert ConstantTable(TABLE) == ConstantTable(TABLE.copy()) != ConstantTable(other)


def test_tables_whose_cells_have_no_hash_are_constants_too():
    table = pd.DataFrame({"x": [[1, 2], [3]]})
    arrays, static = split_static((table,))
    assert arrays == []
    pd.testing.assert_frame_equal(join_static(arrays, static)[0], table)
    hash(static)


def test_log_densities_are_of_the_precision_that_asks():
    def program(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    problem = Problem(program, (0.5,))
    for asked in (False, True, False):
        with jax.enable_x64(asked):
            density = problem.log_density()
            assert density is problem.log_density()
            assert density.shape.dtype == (np.float64 if asked else np.float32)
            assert density(np.zeros(1)).dtype == density.shape.dtype
