"""Sites whose support has arrays as bounds, fixed ones and other sites' values."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from inference.core.problem import Problem
from inference.mcmc.gibbs import Gibbs
from inference.mcmc.hmc import NUTS


@pytest.fixture(autouse=True)
def numpyro_promotes_ranks():
    """NumPyro's transforms between bounds promote ranks themselves."""
    with jax.numpy_rank_promotion("allow"):
        yield


def fixed():
    x = numpyro.sample("x", dist.Uniform(-4 * jnp.ones(2), 4 * jnp.ones(2)).to_event(1))
    numpyro.factor("bowl", -jnp.sum(x**2))


def moving(high=3.0):
    """The upper bound is a site, and the distribution inside of it is uniform."""
    top = numpyro.sample("top", dist.Uniform(0, high))
    x = numpyro.sample("x", dist.Uniform(jnp.zeros(2), top * jnp.ones(2)).to_event(1))
    numpyro.deterministic("share", x / top)


def mixed():
    moving()
    numpyro.sample("z", dist.Categorical(jnp.ones(2) / 2))


@pytest.mark.parametrize("program", [fixed, moving], ids=lambda one: one.__name__)
def test_draws_are_inside_the_bounds_that_hold_there(program):
    nuts = NUTS(num_warmup=200, num_samples=200, num_chains=2)
    draws = nuts.infer(Problem(program), key=jax.random.key(0)).samples
    if program is fixed:
        # each entry is normal with sd sqrt(1/2); the chain has more than 50 effective draws
        assert abs(draws["x"].std() / 0.5**0.5 - 1) < 4 / np.sqrt(2 * 50)
        return
    shares = draws["x"] / draws["top"][..., None]
    np.testing.assert_allclose(shares, draws["share"], rtol=1e-5)
    assert ((shares > 0) & (shares < 1)).all()
    assert abs(shares.mean() - 0.5) < 4 / np.sqrt(12 * 50)


def test_kernels_that_keep_the_first_bounds_are_refused():
    reason = Gibbs().supports(Problem(mixed))
    assert reason is not None
    assert "'x' has arrays as bounds" in reason
    assert "numpyro.plate" in reason
