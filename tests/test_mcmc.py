"""The chain runner: NumPyro's draws to the bit, layouts, blocks and remainders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.base import array_stats
from numpyro.infer import MCMC
from numpyro.infer import NUTS as NumPyroNUTS
from toys import entries, tensor_program

import bayesdl as bdl
from inference.mcmc.chains import BLOCK, choose_layout, lacks_devices


def test_same_draws_as_numpyro_to_the_bit():
    i, j, y = entries()
    engine = bdl.NUTS(num_warmup=70, num_samples=BLOCK + 7, num_chains=2, chain_method="sequential")
    post = bdl.fit(tensor_program, i, j, y=y, engine=engine, seed=5, progress=False)
    mcmc = MCMC(
        NumPyroNUTS(tensor_program),
        num_warmup=70,
        num_samples=BLOCK + 7,
        num_chains=2,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(5), jnp.asarray(i), jnp.asarray(j), y=jnp.asarray(y))
    for name, value in mcmc.get_samples(group_by_chain=True).items():
        np.testing.assert_array_equal(post.samples[name], value)


def test_thinning_keeps_every_third_draw():
    i, j, y = entries()
    full = bdl.fit(tensor_program, i, j, y=y, engine=bdl.NUTS(30, 30, 1), progress=False)
    thin = bdl.fit(tensor_program, i, j, y=y, engine=bdl.NUTS(30, 10, 1, thinning=3), progress=False)
    np.testing.assert_array_equal(full.samples["a"][:, 2::3], thin.samples["a"])


def test_layouts():
    assert jax.local_device_count() == 2
    assert choose_layout("auto", 4) == (2, False)
    assert choose_layout("auto", 3) == (1, False)
    assert choose_layout("vectorized", 4) == (2, True)
    assert choose_layout("sequential", 4) == (1, False)
    assert choose_layout("parallel", 2) == (2, False)
    assert "num_chains=4 and 2 device" in lacks_devices("parallel", 4)


@pytest.mark.parametrize("chain_method", ["vectorized", "parallel"])
def test_layouts_agree_in_distribution(chain_method):
    """Every posterior mean within 4 combined Monte Carlo standard errors of sequential chains."""
    i, j, y = entries()
    num_chains = 4 if chain_method == "vectorized" else 2
    one = bdl.fit(tensor_program, i, j, y=y, engine=bdl.NUTS(300, 500, num_chains, chain_method=chain_method), progress=False)
    two = bdl.fit(tensor_program, i, j, y=y, engine=bdl.NUTS(300, 500, 4, chain_method="sequential"), seed=1, progress=False)
    for name, value in (("sigma", lambda p: p.samples["sigma"]), ("f", lambda p: p.function_values(5))):
        a, b = value(one).astype(float), value(two).astype(float)
        errors = np.hypot(*(array_stats.mcse(s, chain_axis=0, draw_axis=1) for s in (a, b)))
        assert np.all(np.abs(a.mean((0, 1)) - b.mean((0, 1))) < 4 * errors), name
