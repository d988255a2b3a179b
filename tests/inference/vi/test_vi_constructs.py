"""Marginals and isolated draws of programmable variational inference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.special import logsumexp
from vi_toys import KEY, count, flip, flips, label, many, z_of

from bayesdl.vi import (
    MVD,
    Enum,
    EstimatorError,
    Reinforce,
    add_cost,
    check_unbiased,
    elbo,
    expectation,
    marginal,
    normalize,
)
from inference.core.problem import ProblemError


def pair():
    u = numpyro.sample("u", dist.Normal(0.0, 2.0))
    numpyro.sample("x", dist.Normal(u, 1.0))


def reverse(kept):
    numpyro.sample("u", dist.Normal(0.5 * kept["x"], 1.2))


@pytest.mark.parametrize(
    ("kernel", "N"),
    [(None, 1), (None, 5), (reverse, 1), (reverse, 5)],
    ids=["prior-1", "prior-5", "own-1", "own-5"],
)
@pytest.mark.quick_cases(2)
def test_marginal_contracts(kernel, N):
    """E[w] = q(x) at x = 1, which is 0.1614, and E[g(x) / w] = 1 over x ~ q, for a density g.

    Both hold within 3 standard errors.
    """
    q = marginal(pair, keep=["x"], reverse=kernel, N=N)
    density = expectation(lambda p, q: jnp.exp(q.density({"x": 1.0})), lambda: None, q)
    assert z_of(many(lambda key: density(key, {})), 0.16143) < 3

    def inverse(p, q):
        x, log_w = q.sim()
        return jnp.exp(dist.Normal(0.0, 1.0).log_prob(x["x"]) - log_w)

    if (kernel, N) != (None, 1):  # where the variance is infinite
        E = expectation(inverse, lambda: None, q)
        assert z_of(many(lambda key: E(key, {})), 1.0) < 3


@pytest.mark.slow
def test_normalised_densities_keep_the_same_contracts():
    """By resampling, E[w(x)] integrates to one over x, and E[g / w] is one."""

    def model(y):
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(x, 0.5), obs=y)

    def proposal(y):
        numpyro.sample("x", dist.Normal(0.2, 1.3))

    def mass(p, q):
        x = jnp.linspace(-6.0, 6.0, 61)
        return jnp.exp(normalize(p, q, 4, detach=False).density({"x": x}, 61)).sum() * 0.2

    def inverse(p, q):
        x, log_w = normalize(p, q, 4, detach=False).sim()
        return jnp.exp(dist.Normal(0.5, 0.4).log_prob(x["x"]) - log_w)

    for objective in (mass, inverse):
        E = expectation(objective, model, proposal)
        assert z_of(many(lambda key, E=E: E(key, {}, 0.7)), 1.0) < 4


def test_marginal_refuses_what_is_not_there():
    with pytest.raises(ProblemError, match="has no latent site 'z', only"):
        expectation(elbo, pair, marginal(pair, keep=["z"]))(KEY, {})
    with pytest.raises(ProblemError, match="expected the names of the sites"):
        marginal(pair, keep="x")


@pytest.mark.slow
def test_overriding_one_site_leaves_all_other_draws_as_they_are():
    from inference.vi.gradients.programs import Call, run_program

    def program():
        numpyro.sample("a", dist.Bernoulli(0.5))
        numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("three", 3):
            numpyro.sample("c", dist.Categorical(jnp.ones((3, 4)) / 4))
        numpyro.sample("d", dist.Gamma(2.0, 1.0))

    call = Call((), {}, {}, {}, KEY)
    plain = run_program(program, call, "draw 1", {}, {}, (4,)).values
    for name, value in plain.items():
        again = run_program(program, call, "draw 1", {}, {name: value}, (4,)).values
        other = run_program(program, call, "draw 1", {}, {name: value * 0 + 1}, (4,)).values
        for site in plain:
            np.testing.assert_array_equal(plain[site], again[site])
            if site != name:
                np.testing.assert_array_equal(plain[site], other[site])


def test_costs_leave_later_scores_alone():
    """A cost added before a draw changes the value, but not the variance of the later gradient."""

    def objective(p, q, early):
        add_cost(early)
        return 3.0 * q.sim()[0]["z"]

    def guide():
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.3)))

    gradients = []
    for early in (0.0, 1000.0):
        E = expectation(
            functools.partial(objective, early=early),
            lambda: None,
            guide,
            estimators={"z": Reinforce(0.5)},
        )
        value, gradient = jax.jit(
            jax.vmap(jax.value_and_grad(lambda p, k, E=E: E(k, {"phi": p})), (None, 0))
        )(0.3, jax.random.split(KEY, 100))
        assert (value >= early).all()
        gradients.append(gradient)
    np.testing.assert_allclose(*gradients, atol=1e-3)


def test_enum_of_a_large_plate_is_refused_and_mvd_runs():
    with pytest.raises(
        EstimatorError, match=r"2\^64 runs, above 1024; take MVD\(\), which needs 64"
    ):
        expectation(count, lambda: None, flips(64), estimators={"z": Enum()})(
            KEY, {"phi": jnp.zeros(64)}
        )
    E = expectation(count, lambda: None, flips(64), estimators={"z": MVD()})
    gradient = jax.jit(jax.grad(lambda phi: E(KEY, {"phi": phi})))(jnp.zeros(64))
    assert np.isfinite(gradient).all() and (np.asarray(gradient) != 0).all()


def test_reinforce_without_a_baseline_warns():
    E = expectation(count, lambda: None, flips(3), estimators={"z": Reinforce()})
    with pytest.warns(UserWarning, match="without a baseline"):
        E(KEY, {"phi": jnp.zeros(3)})


@pytest.mark.slow
def test_enum_of_eight_sites_grows_at_most_quadratically():
    def program(n):
        def guide():
            u = 0.0
            for i in range(n):
                u = numpyro.sample(
                    f"z{i}", dist.Bernoulli(logits=numpyro.param("phi", 0.3) + 0.1 * u)
                )

        E = expectation(
            lambda p, q: sum(q.sim()[0].values()) ** 2.0,
            lambda: None,
            guide,
            estimators={f"z{i}": Enum() for i in range(n)},
        )
        return lambda phi: E(KEY, {"phi": phi})

    def equations(jaxpr):
        inner = [
            p
            for e in jaxpr.eqns
            for p in jax.tree.leaves(e.params, is_leaf=lambda v: hasattr(v, "eqns"))
        ]
        return len(jaxpr.eqns) + sum(
            equations(getattr(p, "jaxpr", p))
            for p in inner
            if hasattr(getattr(p, "jaxpr", p), "eqns")
        )

    sizes = {n: equations(jax.make_jaxpr(jax.grad(program(n)))(0.3).jaxpr) for n in (4, 8)}
    assert sizes[8] / sizes[4] <= 4.5


def test_draws_can_be_sliced_and_turned():
    """Whatever is made of the draws of sim(K), leave-one-out stays unbiased."""

    def sliced(p, q):
        z, _ = q.sim(3)
        half = jax.tree.map(lambda value: value[::-1][:2], z)
        return logsumexp(p.density(half, 2) + z["z"][0])

    report = check_unbiased(sliced, label, flip, None, 1.5, estimators={"z": Reinforce("loo")})
    assert report.ok and report.method == "enumeration"


def test_a_parameter_may_have_the_name_of_a_site():
    def model():
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        sigma = numpyro.deterministic("sigma", jnp.exp(z))
        numpyro.sample("y", dist.Normal(0.0, sigma), obs=0.7)

    def guide():
        numpyro.sample("z", dist.Normal(numpyro.param("loc", 0.1), numpyro.param("sigma", 0.05)))

    def hand(key):
        z = 0.1 + 0.05 * jax.random.normal(key)
        log_p = dist.Normal(0, 1).log_prob(z) + dist.Normal(0, jnp.exp(z)).log_prob(0.7)
        return log_p - dist.Normal(0.1, 0.05).log_prob(z)

    E = expectation(elbo, model, guide)
    ours, theirs = many(lambda key: E(key, {"loc": 0.1, "sigma": 0.05})), many(hand)
    assert abs(ours.mean() - theirs.mean()) < 4 * np.hypot(ours.std(), theirs.std()) / np.sqrt(
        len(ours)
    )


def test_uniform_and_repeated_sites():
    def uniform():
        numpyro.sample("z", dist.Uniform(0.0, numpyro.param("a", 1.5)))

    E = expectation(
        lambda p, q: 3.0 * q.sim()[0]["z"], lambda: None, uniform, estimators={"z": Reinforce(0.5)}
    )
    with pytest.raises(EstimatorError, match="support of Uniform depends on parameters"):
        jax.grad(lambda a: E(KEY, {"a": a}))(1.5)

    def repeated():
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.3)), sample_shape=(3,))

    report = check_unbiased(count, lambda: None, repeated, estimators={"z": Reinforce(2.0)})
    assert report.ok
    p = 1 / (1 + np.exp(-0.3))
    np.testing.assert_allclose(
        report.oracle["phi"], p * (1 - p) * (3 + 12 * p), rtol=1e-4
    )  # of 3 p (1 - p) + 9 p^2
