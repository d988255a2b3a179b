"""Gradient estimators of single sites: against exact gradients."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from estimator_toys import KEY, OBJECTIVES, costly, squared, z_scores

from bayesdl.vi import (
    MVD,
    Enum,
    Implicit,
    Reinforce,
    Reparam,
    dreg,
    expectation,
    renyi,
    thermodynamic,
)

Y = 1.5


def flip_model(y):
    z = numpyro.sample("z", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)


def flip_guide(y):
    numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.4)))


def three_model(y):
    z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
    numpyro.sample("y", dist.Normal(jnp.array([0.0, 1.0, 3.0])[z], 1.0), obs=y)


def three_guide(y):
    numpyro.sample("z", dist.Categorical(logits=numpyro.param("phi", jnp.array([0.3, -0.2, 0.1]))))


DISCRETE = {
    "flip": (flip_model, flip_guide, {"phi": 0.4}),
    "three": (three_model, three_guide, {"phi": jnp.array([0.3, -0.2, 0.1])}),
}


FINITE = {
    "Enum": Enum(),
    "MVD": MVD(),
    "Reinforce(None)": Reinforce(None),
    "Reinforce(-1)": Reinforce(-1.0),
    "Reinforce(loo)": Reinforce("loo"),
}


@functools.cache
def exact_discrete(program, objective):
    """By hand: the sum over all values of the K draws."""
    model, _, params = DISCRETE[program]
    K = {"iwelbo 2": 2, "iwelbo 3": 3}.get(objective, 1)
    states = 2 if program == "flip" else 3

    def log_joint(z):
        trace = numpyro.handlers.trace(numpyro.handlers.substitute(model, data={"z": z})).get_trace(
            Y
        )
        return sum(
            site["fn"].log_prob(site["value"])
            for site in trace.values()
            if site["type"] == "sample"
        )

    def value(params):
        logits = (
            params["phi"] if program == "three" else jnp.stack([0.0 * params["phi"], params["phi"]])
        )
        log_q = jax.nn.log_softmax(logits)
        total = 0.0
        for draws in itertools.product(range(states), repeat=K):
            log_w = jnp.stack([log_joint(jnp.array(z)) - log_q[z] for z in draws])
            k = {"elbo": log_w[0], "square": float(draws[0] ** 2)}.get(
                objective, jax.nn.logsumexp(log_w) - np.log(K)
            )
            total += jnp.exp(sum(log_q[z] for z in draws)) * k
        return total

    return jax.jit(jax.value_and_grad(value))(params)


@pytest.mark.parametrize("objective", costly(OBJECTIVES, ["iwelbo 2"]))
@pytest.mark.parametrize("program", costly(DISCRETE, ["flip"]))
@pytest.mark.parametrize("estimator", FINITE)
@pytest.mark.quick_cases(2)
def test_discrete_sites(program, estimator, objective):
    model, guide, params = DISCRETE[program]
    value, exact = exact_discrete(program, objective)
    E = expectation(OBJECTIVES[objective], model, guide, estimators={"z": FINITE[estimator]})
    if estimator == "Enum":
        found, gradient = jax.jit(jax.value_and_grad(lambda p: E(KEY, p, Y)))(params)
        np.testing.assert_allclose(found, value, atol=1e-5)
        np.testing.assert_allclose(gradient["phi"], exact["phi"], atol=1e-5)
    else:
        assert z_scores(E, params, exact, Y)["phi"] < 4


def normal_model(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(z, 0.8), obs=y)


def normal_guide(y):
    numpyro.sample("z", dist.Normal(numpyro.param("loc", 0.3), numpyro.param("scale", 1.2)))


NORMAL = {"loc": 0.3, "scale": 1.2}


CONTINUOUS = {
    "Reparam": Reparam(),
    "Reparam(stick)": Reparam(stick=True),
    "MVD": MVD(),
    "Implicit": Implicit(),
    "Reinforce(None)": Reinforce(None),
    "Reinforce(loo)": Reinforce("loo"),
}


def quadrature(value_of_draws, K):
    """The mean over K standard normal draws, by a Gauss-Hermite product rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack(np.meshgrid(*[nodes] * K, indexing="ij"), -1).reshape(-1, K)
    mass = np.prod(
        np.stack(np.meshgrid(*[weights / weights.sum()] * K, indexing="ij"), -1).reshape(-1, K), -1
    )
    return mass @ jax.vmap(value_of_draws)(jnp.asarray(grid))


@functools.cache
def exact_normal(objective):
    K = {"iwelbo 2": 2, "iwelbo 3": 3}.get(objective, 1)

    def value(params):
        def one(noise):
            z = params["loc"] + params["scale"] * noise
            log_w = dist.Normal(0, 1).log_prob(z) + dist.Normal(z, 0.8).log_prob(Y)
            log_w -= dist.Normal(params["loc"], params["scale"]).log_prob(z)
            return {"elbo": log_w[0], "square": z[0] ** 2}.get(
                objective, jax.nn.logsumexp(log_w) - np.log(K)
            )

        return quadrature(one, K)

    return jax.jit(jax.grad(value))(NORMAL)


@pytest.mark.parametrize("objective", costly(OBJECTIVES, ["iwelbo 2"]))
@pytest.mark.parametrize("estimator", CONTINUOUS)
@pytest.mark.quick_cases(3)
def test_a_normal_site(estimator, objective):
    E = expectation(
        OBJECTIVES[objective], normal_model, normal_guide, estimators={"z": CONTINUOUS[estimator]}
    )
    assert max(z_scores(E, NORMAL, exact_normal(objective), Y).values()) < 4


def test_other_objectives():
    """Renyi and thermodynamic bounds and the doubly reparametrised gradient, on the normal site."""

    def weights(params, noise):
        z = params["loc"] + params["scale"] * noise
        log_w = dist.Normal(0, 1).log_prob(z) + dist.Normal(z, 0.8).log_prob(Y)
        return log_w - dist.Normal(params["loc"], params["scale"]).log_prob(z)

    def bound(log_w):
        beta = jnp.arange(3) / 3
        return jnp.mean(jnp.sum(jax.nn.softmax(beta[:, None] * log_w[None], -1) * log_w[None], -1))

    exact = {
        "renyi": lambda log_w: (jax.nn.logsumexp(0.4 * log_w) - np.log(2)) / 0.4,
        "thermodynamic": bound,
        "dreg": lambda log_w: jax.nn.logsumexp(log_w) - np.log(2),
    }
    given = {
        "renyi": renyi(0.6, K=2),
        "thermodynamic": thermodynamic(K=2, partitions=3),
        "dreg": dreg(K=2),
    }
    for name, function in exact.items():
        gradient = jax.jit(
            jax.grad(lambda p, f=function: quadrature(lambda noise: f(weights(p, noise)), 2))
        )(NORMAL)
        E = expectation(given[name], normal_model, normal_guide)
        assert max(z_scores(E, NORMAL, gradient, Y).values()) < 4, name


LAWS = {
    "poisson": (
        lambda p: dist.Poisson(p["a"]),
        {"a": 2.5},
        (MVD(), Reinforce(None)),
        lambda p: p["a"] + p["a"] ** 2,
    ),
    "gamma": (
        lambda p: dist.Gamma(p["a"], p["b"]),
        {"a": 2.0, "b": 1.5},
        (MVD(), Implicit(), Reparam(), Reinforce(None)),
        lambda p: p["a"] / p["b"] ** 2 + (p["a"] / p["b"]) ** 2,
    ),
    "kumaraswamy": (
        lambda p: dist.Kumaraswamy(p["a"], p["b"]),
        {"a": 2.0, "b": 1.5},
        (Implicit(), Reinforce(None)),
        lambda p: (
            p["b"]
            * jnp.exp(
                sum(jax.scipy.special.gammaln(jnp.array([1 + 2 / p["a"], p["b"]])))
                - jax.scipy.special.gammaln(1 + 2 / p["a"] + p["b"])
            )
        ),
    ),
    # it has no differentiable sampler, so the derivative is that of its distribution function
    "mixture": (
        lambda p: dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.array([0.3, 0.7])),
            dist.Normal(jnp.stack([p["a"], p["b"]]), jnp.array([0.5, 1.0])),
        ),
        {"a": -1.0, "b": 2.0},
        (Implicit(), Reinforce(None)),
        lambda p: 0.3 * (p["a"] ** 2 + 0.25) + 0.7 * (p["b"] ** 2 + 1.0),
    ),
}


@pytest.mark.parametrize("law", costly(LAWS, ["poisson", "mixture"]))
@pytest.mark.quick_cases(1)
def test_other_laws(law):
    """The second moment of laws that have a closed form."""
    make, params, estimators, moment = LAWS[law]

    def guide():
        numpyro.sample(
            "z", make({name: numpyro.param(name, value) for name, value in params.items()})
        )

    for estimator in estimators:
        E = expectation(squared, lambda: None, guide, estimators={"z": estimator})
        assert max(z_scores(E, params, jax.grad(moment)(params)).values()) < 4, estimator
