"""Distribution functions and moments of NumPyro's distributions, everywhere on the line."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

from inference.wrappers import marginal_cdf, mean_of, variance_of

SIZE = jnp.array([0.7, 1.3, 2.0])

# with the same distributions of SciPy
CASES = {
    "counts": (
        dist.NegativeBinomial2(SIZE, 3.0),
        scipy.stats.nbinom(3, 3 / (3 + np.array(SIZE))),
    ),
    "gamma counts": (dist.GammaPoisson(SIZE, 2.0), scipy.stats.nbinom(np.array(SIZE), 2 / 3)),
    "power law": (dist.Pareto(SIZE, 5.0), scipy.stats.pareto(5, scale=np.array(SIZE))),
    "inverse gamma": (dist.InverseGamma(5.0, SIZE), scipy.stats.invgamma(5, scale=np.array(SIZE))),
    "shares": (dist.Beta(SIZE, 2.0), scipy.stats.beta(np.array(SIZE), 2)),
    "times": (dist.Weibull(SIZE, 1.5), scipy.stats.weibull_min(1.5, scale=np.array(SIZE))),
    "bounded": (dist.Uniform(-1.0, SIZE), scipy.stats.uniform(-1, np.array(SIZE) + 1)),
    "event": (dist.Exponential(SIZE).to_event(1), scipy.stats.expon(scale=1 / np.array(SIZE))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("at", [-1.0, -0.2, 0.0, 0.9, 2.3, 40.0])
def test_distribution_functions_hold_outside_the_support_and_between_counts(name, at):
    ours, theirs = CASES[name]
    at = np.full(3, at)
    np.testing.assert_allclose(marginal_cdf(ours, jnp.asarray(at)), theirs.cdf(at), atol=2e-5)


def test_mixtures_of_counts_are_sums_over_their_parts():
    parts = dist.NegativeBinomial2(jnp.stack([SIZE, 3 * SIZE], -1), 3.0)
    mixture = dist.MixtureSameFamily(dist.Categorical(jnp.array([0.3, 0.7])), parts)
    at = np.array([-0.5, 0.4, 3.7])
    mean = np.array(SIZE)
    wanted = sum(
        share * scipy.stats.nbinom(3, 3 / (3 + scale * mean)).cdf(at)
        for share, scale in ((0.3, 1), (0.7, 3))
    )
    np.testing.assert_allclose(marginal_cdf(mixture, jnp.asarray(at)), wanted, atol=2e-5)


@pytest.mark.parametrize(
    "direction",
    [
        dist.VonMises(SIZE, 2.0),
        dist.SineSkewed(dist.VonMises(SIZE, 2.0).to_event(1), jnp.array([0.3, 0.2, 0.1])),
        dist.ProjectedNormal(SIZE),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_mean_direction_is_no_mean_of_numbers(direction):
    for moment in (mean_of, variance_of):
        with pytest.raises(NotImplementedError, match="direction"):
            moment(direction)


def test_a_moment_has_an_entry_for_each_value():
    # NumPyro's variance of this one has one entry
    np.testing.assert_allclose(
        variance_of(dist.SoftLaplace(SIZE, 1.0)), np.full(3, np.pi**2 / 4), rtol=1e-6
    )
