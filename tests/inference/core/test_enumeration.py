"""Discrete latent sites that are summed out, against sums that are written by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.special import logsumexp
from numpyro.contrib.control_flow import scan

from inference.core.enumeration import check, discrete
from inference.core.problem import Problem, ProblemError

pytest.importorskip("funsor")


@pytest.fixture(autouse=True)
def broadcasting():
    with jax.numpy_rank_promotion("allow"):
        yield


RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=12).astype(np.float32))
COUNTS = RNG.poisson(3, 12)
MU, W = jnp.array([-1.0, 0.5, 2.0]), jnp.array([0.2, 0.3, 0.5])
P = jnp.array([[0.9, 0.1], [0.3, 0.7]])


def normal(y, mean, scale=1.0):
    return dist.Normal(mean, scale).log_prob(y)


def mixture(y):
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([3]))
    with numpyro.plate("rows", len(y)) as rows:
        z = numpyro.sample("z", dist.Categorical(W))
        numpyro.deterministic("mean", mu[z])
        numpyro.deterministic("largest", mu.max())
        numpyro.sample("y", dist.Normal(mu[z], 1), obs=y[rows])


def mixture_by_hand(y, mu):
    return logsumexp(normal(y[:, None], mu) + jnp.log(W), 1).sum() + normal(mu, 0, 5).sum()


def chain(y):
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]))

    def step(s, y):
        s = numpyro.sample("s", dist.Categorical(P[s]))
        numpyro.sample("y", dist.Normal(mu[s], 1), obs=y)
        return s, None

    scan(step, 0, y)


def chain_by_hand(y, mu):
    alpha = jnp.log(P[0]) + normal(y[0], mu)
    for value in y[1:]:
        alpha = logsumexp(alpha[:, None] + jnp.log(P), 0) + normal(value, mu)
    return logsumexp(alpha) + normal(mu, 0, 5).sum()


def nested(y):
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]))
    c = numpyro.sample("c", dist.Bernoulli(0.4))
    with numpyro.plate("groups", 4, dim=-2):
        z = numpyro.sample("z", dist.Categorical(jnp.array([[0.2, 0.8], [0.6, 0.4]])[c]))
        with numpyro.plate("rows", 3):
            k = numpyro.sample("k", dist.Bernoulli(jnp.array([0.1, 0.7])[z]))
            numpyro.sample("y", dist.Normal(mu[k], 1), obs=y.reshape(4, 3))


def nested_by_hand(y, mu):
    rows = normal(y.reshape(4, 3, 1), mu)  # (4, 3, k)
    given_z = jnp.array([[0.9, 0.1], [0.3, 0.7]])  # (z, k)
    groups = logsumexp(rows[:, :, None] + jnp.log(given_z), 3).sum(1)  # (4, z)
    given_c = jnp.array([[0.2, 0.8], [0.6, 0.4]])
    alone = logsumexp(groups[:, None] + jnp.log(given_c), 2).sum(0)  # (c,)
    return logsumexp(alone + jnp.log(jnp.array([0.6, 0.4]))) + normal(mu, 0, 5).sum()


def change(y):
    mu = numpyro.sample("mu", dist.Exponential(1.0).expand([2]))
    tau = numpyro.sample("tau", dist.DiscreteUniform(2, 9))
    rate = jnp.where(jnp.arange(12) < tau, mu[0], mu[1])
    numpyro.sample("y", dist.Poisson(rate), obs=y)


def change_by_hand(y, mu):
    rate = jnp.where(np.arange(12) < np.arange(2, 10)[:, None], mu[0], mu[1])
    terms = dist.Poisson(rate).log_prob(y[None]).sum(1) - jnp.log(8.0)
    return logsumexp(terms) + dist.Exponential(1.0).log_prob(mu).sum()


CASES = {
    "mixture": (mixture, X, MU, mixture_by_hand),
    "hidden Markov chain": (chain, X, MU[:2], chain_by_hand),
    "nested plates": (nested, X, MU[:2], nested_by_hand),
    "change point": (change, COUNTS, jnp.array([2.0, 4.0]), change_by_hand),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.quick_cases(2)
def test_log_density_is_the_sum_by_hand(name):
    program, y, mu, by_hand = CASES[name]
    problem = Problem(program, (y,))
    assert list(problem.latents) == ["mu"] and check.why_not_summed(problem) is None
    u = jax.jit(problem.to_unconstrained)({"mu": mu})
    jacobian = jnp.log(mu).sum() if name == "change point" else 0.0
    expected = by_hand(y, mu) + jacobian
    np.testing.assert_allclose(jax.jit(problem.log_density_at)(u), expected, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.quick_cases(2)
def test_probabilities_are_those_of_bayes_rule(name):
    program, y, mu, _ = CASES[name]
    problem = Problem(program, (y,))
    found = jax.jit(lambda mu: discrete.probabilities(problem, {"mu": mu}))(mu)
    if name == "mixture":
        expected = {"z": jax.nn.softmax(normal(y[:, None], mu) + jnp.log(W))}
    elif name == "change point":
        rate = jnp.where(np.arange(12) < np.arange(2, 10)[:, None], mu[0], mu[1])
        expected = {"tau": jax.nn.softmax(dist.Poisson(rate).log_prob(y[None]).sum(1))}
    else:
        expected = (chain_probabilities if name != "nested plates" else nested_probabilities)(y, mu)
    for site, value in expected.items():
        assert found[site].shape == (*problem.unobserved[site], value.shape[-1])
        np.testing.assert_allclose(found[site].reshape(value.shape), value, atol=1e-5)


def chain_probabilities(y, mu):
    paths = np.array(list(np.ndindex(*(2,) * len(y))))
    before = np.concatenate([np.zeros((len(paths), 1), int), paths[:, :-1]], 1)
    weights = jax.nn.softmax((jnp.log(P)[before, paths] + normal(y, mu[paths])).sum(1))
    late = (weights[:, None] * paths).sum(0)
    return {"s": jnp.stack([1 - late, late], -1)}


def nested_probabilities(y, mu):
    rows = normal(y.reshape(4, 3, 1), mu)
    given_z, given_c = jnp.array([[0.9, 0.1], [0.3, 0.7]]), jnp.array([[0.2, 0.8], [0.6, 0.4]])
    groups = logsumexp(rows[:, :, None] + jnp.log(given_z), 3).sum(1)
    alone = logsumexp(groups[:, None] + jnp.log(given_c), 2).sum(0)
    c = jax.nn.softmax(alone + jnp.log(jnp.array([0.6, 0.4])))
    z = jnp.einsum("c,gcz->gz", c, jax.nn.softmax(groups[:, None] + jnp.log(given_c)))
    k = jnp.einsum("gz,grzk->grk", z, jax.nn.softmax(rows[:, :, None] + jnp.log(given_z)))
    return {"c": c, "z": z, "k": k}


def test_deterministic_sites_that_depend_on_the_sum_are_left_out():
    problem = Problem(mixture, (X,))
    assert problem.depends_on_summed == {"mean"}
    density = problem.log_density()
    assert set(density.constrain(density.ravel({"mu": MU}))) == {"mu", "largest"}


def test_minibatches_weigh_the_sum_and_not_its_terms():
    problem = Problem(mixture, (X,))
    density = problem.batch_log_density(4)
    rows = jnp.array([1, 3, 5, 8])
    prior = normal(MU, 0, 5).sum()
    expected = 3 * (mixture_by_hand(X[rows], MU) - prior) + prior
    np.testing.assert_allclose(jax.jit(density)(MU, rows), expected, rtol=1e-5)
    assert problem.minibatch(4).trace["y"]["value"].shape == (4,)


def test_minibatches_of_a_shared_site_are_refused():
    def shared(y):
        mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]))
        c = numpyro.sample("c", dist.Bernoulli(0.4))
        with numpyro.plate("rows", len(y)) as rows:
            numpyro.sample("y", dist.Normal(mu[c], 1), obs=y[rows])

    with pytest.raises(ProblemError, match="'c' and 'y' are summed together"):
        Problem(shared, (X,)).minibatch(4)


def test_programs_that_enumeration_would_get_wrong_are_refused():
    def summing(y):
        p = numpyro.sample("p", dist.Beta(1, 1))
        with numpyro.plate("n", 5):
            z = numpyro.sample("z", dist.Bernoulli(p))
        numpyro.sample("y", dist.Normal(z.sum(), 1), obs=y)

    def endless(y):
        rate = numpyro.sample("rate", dist.Gamma(1, 1))
        k = numpyro.sample("k", dist.Poisson(rate))
        numpyro.sample("y", dist.Normal(k, 1), obs=y)

    def groups(y):
        mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]))
        with numpyro.plate("groups", 4):
            z = numpyro.sample("z", dist.Bernoulli(0.4))
        with numpyro.plate("rows", 12):
            numpyro.sample("y", dist.Normal(mu[z[np.arange(12) // 3]], 1), obs=y)

    def forty(y):
        p = numpyro.sample("p", dist.Beta(1, 1))
        total = sum(numpyro.sample(f"z{i}", dist.Bernoulli(p)) for i in range(40))
        numpyro.sample("y", dist.Normal(total, 1), obs=y)

    for program, y, words in (
        (summing, 2.0, "'z'.*several rows of a site at once.*Gibbs"),
        (endless, 2.0, "'k' is discrete and has infinitely many values.*Poisson"),
        (groups, X, r"'z'.*\(z\[group\]\) can be an axis inside that plate.*Gibbs"),
        (forty, 3.0, "40 sites.*too many joint values.*Gibbs"),
    ):
        reason = check.why_not_summed(Problem(program, (y,)))
        assert reason is not None and re.search(words, reason), reason
