"""Gradient estimators of two sites, in all ordered pairs: against exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from estimator_toys import costly, squared, z_scores

from bayesdl.vi import (
    MVD,
    Enum,
    Implicit,
    Reinforce,
    Reparam,
    expectation,
)

PAIR = {"a": 0.3, "b": -0.4, "c": 0.5}


PAIRS = {
    "Enum": Enum(),
    "MVD": MVD(),
    "Reinforce": Reinforce(0.5),
    "Reparam": Reparam(),
    "Implicit": Implicit(),
}


def chain_guide(first, second):
    """Two sites, the second depending on the first.

    They are flips, or normals if the estimator is pathwise.
    """

    def guide():
        a, b, c = (numpyro.param(name, value) for name, value in PAIR.items())
        pathwise = (Reparam, Implicit)
        u = numpyro.sample(
            "u", dist.Normal(a, 1.0) if isinstance(first, pathwise) else dist.Bernoulli(logits=a)
        )
        eta = b + c * u
        numpyro.sample(
            "v",
            dist.Normal(eta, 0.7) if isinstance(second, pathwise) else dist.Bernoulli(logits=eta),
        )

    return guide


def chain_objective(p, q):
    z, log_q = q.sim()
    return (1.0 + z["u"] + 2.0 * z["v"] * z["u"] - 0.5 * z["v"]) ** 2 / 2 - 0.3 * log_q


def exact_chain(first, second):
    """The same by sums over flips and quadrature over normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def values(kind, eta, scale):
        if isinstance(kind, Reparam | Implicit):
            points = eta + scale * jnp.asarray(nodes)
            return (
                points,
                jnp.asarray(weights / weights.sum()),
                dist.Normal(eta, scale).log_prob(points),
            )
        points = jnp.arange(2.0)
        log_q = dist.Bernoulli(logits=eta).log_prob(points)
        return points, jnp.exp(log_q), log_q

    def value(p):
        u, mass, log_u = values(first, p["a"], 1.0)

        def given(u, log_u):
            v, mass, log_v = values(second, p["b"] + p["c"] * u, 0.7)
            return mass @ ((1.0 + u + 2.0 * v * u - 0.5 * v) ** 2 / 2 - 0.3 * (log_u + log_v))

        return mass @ jax.vmap(given)(u, log_u)

    return jax.jit(jax.grad(value))(PAIR)


@pytest.mark.parametrize("second", costly(PAIRS, ["Enum", "MVD"]))
@pytest.mark.parametrize("first", costly(PAIRS, ["MVD", "Reparam"]))
@pytest.mark.quick_cases(2)
def test_ordered_pairs(first, second):
    first, second = PAIRS[first], PAIRS[second]
    E = expectation(
        chain_objective,
        lambda: None,
        chain_guide(first, second),
        estimators={"u": first, "v": second},
    )
    assert max(z_scores(E, PAIR, exact_chain(first, second)).values()) < 4


def test_a_plate_of_flips():
    """A site of three elements: E[S^2] and its exact derivative."""

    def guide():
        with numpyro.plate("three", 3):
            numpyro.sample("z", dist.Bernoulli(numpyro.param("probs", jnp.array([0.2, 0.5, 0.7]))))

    params = {"probs": jnp.array([0.2, 0.5, 0.7])}
    exact = jax.grad(lambda p: jnp.sum(p["probs"] * (1 - p["probs"])) + jnp.sum(p["probs"]) ** 2)(
        params
    )
    for estimator in (Enum(), MVD(), Reinforce(2.0)):
        E = expectation(squared, lambda: None, guide, estimators={"z": estimator})
        assert z_scores(E, params, exact)["probs"] < 4
