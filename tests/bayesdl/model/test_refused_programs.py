"""Programs that state no log density, or whose sites cannot be told, are refused in words."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import cond, scan

import bayesdl as bdl
from bayesdl.data.validation import ModelError
from inference.core.program import ProgramError

X = np.linspace(-1, 1, 12)
ENGINES = [bdl.Laplace(), bdl.VI(steps=3), bdl.NUTS(num_warmup=5, num_samples=5, num_chains=1)]


def line(x, y=None):
    a, b = numpyro.sample("a", dist.Normal(0, 5)), numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + b * x, 0.3), obs=y)


def keyed(x, y=None):
    """Dropout by hand."""
    kept = jax.random.bernoulli(numpyro.prng_key(), 0.9)
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(kept * b * x, 0.3), obs=y)


def fit(program, engine=ENGINES[0]):
    return bdl.fit(program, X, y=2 * X, engine=engine, progress=False)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("program", [handlers.block(line, hide=["b"]), keyed], ids=["block", "key"])
def test_random_numbers_that_are_no_site(program, engine):
    with pytest.raises(ProgramError, match="draws random numbers that are none of its sites"):
        fit(program, engine)


def test_a_site_with_a_value_that_is_no_observation():
    with pytest.raises(ModelError, match=r"Site 'b' .* by handlers.substitute.*handlers.condition"):
        fit(handlers.substitute(line, data={"b": 2.0}))
    # both cures
    for cure in (handlers.condition, handlers.do):
        mean = fit(cure(line, data={"b": 2.0})).predict(np.ones(1), site="y").mean
        # a is 0 but for its posterior sd of 0.09 and the error of 1000 draws
        np.testing.assert_allclose(mean, 2.0, atol=0.02)


def test_sites_inside_a_branch_or_a_scan_are_inferred():
    def step(level, value):
        level = numpyro.sample("level", dist.Normal(level, 1))
        return level, numpyro.sample("y", dist.Normal(level, 0.3), obs=value)

    def walk(x, y=None):
        start = cond(
            x[0] < 0,
            lambda _: numpyro.sample("start", dist.Normal(0, 1)),
            lambda _: numpyro.sample("start", dist.Normal(5, 1)),
            None,
        )
        scan(step, start, y, length=len(x))

    assert set(fit(walk).problem.latents) == {"start", "level"}


def test_a_function_without_sites():
    compiled = jax.jit(line)
    for program in (compiled, lambda x, y=None: x):
        with pytest.raises(ModelError, match=r"has no site .*jax\.jit.* give the function itself"):
            fit(program)


def test_a_site_of_fixed_value():
    def shifted(x, y=None):
        c = numpyro.sample("c", dist.Delta(1.0))
        line(x - c, y)

    with pytest.raises(ModelError, match=r"Site 'c' .* Delta.*numpyro\.deterministic\('c', value"):
        fit(shifted)
