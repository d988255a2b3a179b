"""Quantiles from a distribution function, against those of scipy and by bisection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from bayesdl.model.quantiles import real_quantile

LEVELS = [1e-6, 0.05, 0.5, 0.9, 0.999]
KNOWN = {
    "normal": (jax.scipy.stats.norm.cdf, stats.norm, (0.0, 1.0)),
    "exponential": (lambda y: -jnp.expm1(-jnp.maximum(y, 0.0)), stats.expon, (1.0, 1.0)),
    "uniform": (lambda y: jnp.clip(y, 0.0, 1.0), stats.uniform, (0.5, 0.3)),
    "Cauchy, of no width": (lambda y: 0.5 + jnp.arctan(y) / jnp.pi, stats.cauchy, (0.0, 1.0)),
    "far from where it is sought": (jax.scipy.stats.norm.cdf, stats.norm, (1e4, 1e-3)),
    "much narrower than it seems": (jax.scipy.stats.norm.cdf, stats.norm, (0.0, 1e4)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_distributions_that_are_known(name):
    cdf, exact, (middle, width) = KNOWN[name]
    with jax.enable_x64(True):
        at = jnp.full((3,), middle), jnp.full((3,), width)
        find = jax.jit(lambda level: real_quantile(cdf, level, *at))
        found = np.array([find(level) for level in LEVELS])
    np.testing.assert_allclose(found[:, 0], exact.ppf(LEVELS), rtol=1e-7, atol=1e-9)
    assert np.all(found == found[:, :1])


def test_moments_may_be_less_precise_than_the_distribution_function():
    with jax.enable_x64(True):
        at = jnp.zeros(2, jnp.float32), jnp.ones(2, jnp.float32)
        shift = jnp.asarray([0.0, 1.0], jnp.float64)
        found = real_quantile(lambda y: jax.scipy.stats.norm.cdf(y - shift), jnp.asarray(0.9), *at)
    np.testing.assert_allclose(found, stats.norm.ppf(0.9) + np.arange(2), rtol=1e-7)


def test_mixtures_with_a_gap_and_of_very_different_widths():
    means, sds = np.array([-5.0, 5.0, 0.0]), np.array([0.1, 0.2, 1e-3])

    def cdf(y):
        return jax.scipy.stats.norm.cdf(y[..., None], means, sds).mean(-1)

    def find(q):
        return float(real_quantile(cdf, jnp.asarray(q), jnp.zeros(1), 4 * jnp.ones(1))[0])

    with jax.numpy_rank_promotion("allow"):
        with jax.enable_x64(True):
            found = [find(q) for q in LEVELS]
        single = [find(q) for q in LEVELS]
    for q, y, rough in zip(LEVELS, found, single, strict=True):
        solved = optimize.brentq(
            lambda v, q=q: stats.norm.cdf(v, means, sds).mean() - q, -20, 20, xtol=1e-12
        )
        assert y == pytest.approx(solved, abs=1e-7)
        assert rough == pytest.approx(solved, abs=1e-4)


def test_a_distribution_that_is_not_known_has_no_quantile():
    means = jnp.array([0.0, jnp.nan])
    found = real_quantile(
        lambda y: jax.scipy.stats.norm.cdf(y - means), jnp.asarray(0.5), jnp.ones(2), jnp.ones(2)
    )
    np.testing.assert_allclose(found, [0.0, np.nan], atol=1e-6)
