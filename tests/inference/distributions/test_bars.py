"""Bars against numerical integration, and bars in other units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from inference.distributions.bars import Bars, fit_grid
from inference.distributions.shifted_bars import ShiftedBars


@pytest.fixture(scope="module")
def bars():
    """Five distributions on edges of normal targets; the outer bars of the first hold much."""
    rng = np.random.default_rng(0)
    edges, scales = fit_grid(rng.normal(size=100_000), 100)
    logits = rng.normal(size=(5, 100))
    logits[0, [0, -1]] = 4.0
    return Bars(jnp.asarray(logits), jnp.asarray(edges), jnp.asarray(scales))


def test_density_cdf_and_moments_are_of_one_distribution(bars):
    grid = np.linspace(-9, 9, 20_001)
    y = np.sort(
        np.concatenate([grid, *(np.asarray(bars.edges[0], float) + side for side in (-1e-7, 1e-7))])
    )  # it jumps there
    with jax.enable_x64(True):
        q = Bars(
            *(
                jnp.asarray(np.asarray(part), jnp.float64)
                for part in (bars.logits, bars.edges, bars.scales)
            )
        )
        density = np.exp(np.asarray(q.log_prob(jnp.asarray(y)[:, None])))
        cdf = np.asarray(q.cdf(jnp.asarray(y)[:, None]))
        mean, variance = np.asarray(q.mean), np.asarray(q.variance)
    np.testing.assert_allclose(np.trapezoid(density, y, axis=0), 1, atol=1e-4)
    between = np.concatenate(
        [
            np.zeros((1, 5)),
            np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(y)[:, None], axis=0),
        ]
    )
    np.testing.assert_allclose(cdf - cdf[0], between, atol=1e-4)
    np.testing.assert_allclose(np.trapezoid(density * y[:, None], y, axis=0), mean, atol=1e-4)
    np.testing.assert_allclose(
        np.trapezoid(density * (y[:, None] - mean) ** 2, y, axis=0), variance, rtol=1e-3
    )


@pytest.mark.slow
def test_crps_is_the_integral_of_squared_differences(bars):
    """At targets in the bars and in both tails.

    The cdf is piecewise smooth between edges and targets.
    """
    t = np.linspace(-12, 12, 400_001)
    with jax.enable_x64(True):
        q = Bars(
            *(
                jnp.asarray(np.asarray(part), jnp.float64)
                for part in (bars.logits, bars.edges, bars.scales)
            )
        )
        cdf = np.asarray(q.cdf(jnp.asarray(t)[:, None]))
        for y in (-4.0, -0.3, 0.5, 3.7):
            expected = np.trapezoid((cdf - (t >= y)[:, None]) ** 2, t, axis=0)
            np.testing.assert_allclose(q.crps(jnp.asarray(y)), expected, atol=1e-4)


def test_quantiles_invert_the_cdf_in_the_tails_too(bars):
    q = jnp.concatenate([jnp.linspace(1e-4, 1 - 1e-4, 999), jnp.array([1e-3, 0.999])])[:, None]
    values = bars.icdf(q)
    assert (
        float(values.min())
        < float(bars.edges[0, 0])
        < float(bars.edges[0, -1])
        < float(values.max())
    )
    np.testing.assert_allclose(bars.cdf(values), jnp.broadcast_to(q, values.shape), atol=1e-5)
    draws = np.asarray(bars.sample(jax.random.key(0), (20_000,)))
    for column in range(5):
        uniform = np.asarray(bars.cdf(jnp.asarray(draws)))[:, column]
        assert stats.kstest(uniform, "uniform").pvalue > 0.001


def test_the_best_bars_lose_little_of_a_normal_distribution():
    """100 equal bars with edges of two million targets, against the entropy of N(0, 1)."""
    rng = np.random.default_rng(0)
    edges, scales = fit_grid(rng.normal(size=2_000_000), 100)
    q = Bars(jnp.zeros(100), jnp.asarray(edges), jnp.asarray(scales))
    points = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    lost = -float(q.log_prob(jnp.asarray(points)).mean()) - stats.norm.entropy()
    assert 0 <= lost + 1e-4 < 0.005
    assert float(q.variance) == pytest.approx(1.0, abs=0.02)


def test_far_from_zero_the_variance_is_right():
    """Edges within 0.1 of each other around 1000, in single precision."""
    edges, logits = 1000 + jnp.linspace(-0.1, 0.1, 9), jnp.zeros(10)
    near = Bars(logits, edges - 1000, jnp.full(2, 0.05))
    assert float(Bars(logits, edges, jnp.full(2, 0.05)).variance) == pytest.approx(
        float(near.variance), rel=0.02
    )


def test_targets_with_ties_have_no_bars():
    with pytest.raises(ValueError, match="have ties"):
        fit_grid(np.arange(10).repeat(100), 50)


@pytest.mark.parametrize("ratio", [1e-3, 1.0, 1e5], ids="c/s={:g}".format)
@pytest.mark.quick_cases(1)
def test_shifted_bars_have_the_distribution_of_c_plus_s_z(bars, ratio):
    """Density, cdf, quantiles, moments and CRPS by change of variables, each with its own units."""
    with jax.enable_x64(True):
        base = Bars(
            *(
                jnp.asarray(np.asarray(part), jnp.float64)
                for part in (bars.logits, bars.edges, bars.scales)
            )
        )
        s = jnp.linspace(0.5, 3.0, 5)
        c = ratio * s
        z = jnp.linspace(-3.0, 3.0, 5)
        q, y = ShiftedBars(base, c, s), c + s * z
        pairs = {
            "density": (q.log_prob(y), base.log_prob(z) - jnp.log(s)),
            "cdf": (q.cdf(y), base.cdf(z)),
            "quantile": (q.icdf(jnp.full(5, 0.2)), c + s * base.icdf(jnp.full(5, 0.2))),
            "mean": (q.mean, c + s * base.mean),
            "variance": (q.variance, s**2 * base.variance),
            "crps": (q.crps(y), s * base.crps(z)),
            "sample": (
                q.sample(jax.random.key(0), (3,)),
                c[None] + s[None] * base.sample(jax.random.key(0), (3,)),
            ),
        }
    for name, (got, expected) in pairs.items():
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9, err_msg=name)
