"""Control flow in programs: its gradients are exact, or it is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from estimator_toys import KEY, OBJECTIVES, costly, squared, z_scores
from numpyro.contrib.control_flow import cond, scan

from bayesdl.vi import (
    MVD,
    Enum,
    EstimatorError,
    Reinforce,
    Reparam,
    expectation,
)


def scan_guide():
    a = numpyro.param("a", 0.3)

    def body(carry, _):
        x = numpyro.sample("x", dist.Bernoulli(logits=a + carry))
        return 0.5 * x, x

    scan(body, 0.0, None, length=3)


def normal_scan_guide():
    a = numpyro.param("a", 0.3)

    def body(carry, _):
        x = numpyro.sample("x", dist.Normal(a + carry, 1.0))
        return 0.5 * x, x

    scan(body, 0.0, None, length=3)


def cond_guide():
    a = numpyro.param("a", 0.3)
    flag = numpyro.sample("flag", dist.Bernoulli(logits=a))
    cond(
        flag > 0,
        lambda _: numpyro.sample("x", dist.Bernoulli(logits=a)),
        lambda _: numpyro.sample("x", dist.Bernoulli(logits=-2 * a)),
        None,
    )


def vmap_guide():
    a = numpyro.param("a", 0.3)
    jax.vmap(lambda shift: numpyro.sample("x", dist.Bernoulli(logits=a + shift)))(jnp.arange(3.0))


def jit_guide():
    a = numpyro.param("a", 0.3)
    jax.jit(lambda a: numpyro.sample("x", dist.Bernoulli(logits=a)))(a)


def lax_scan_guide():
    a = numpyro.param("a", 0.3)
    jax.lax.scan(
        lambda c, _: (c + numpyro.sample("x", dist.Normal(a + c, 1.0)), None), 0.0, None, length=3
    )


def exact_scan(p):
    total = 0.0
    for path in itertools.product((0, 1), repeat=3):
        log_q, carry = 0.0, 0.0
        for x in path:
            log_q, carry = log_q + dist.Bernoulli(logits=p["a"] + carry).log_prob(x), 0.5 * x
        total += jnp.exp(log_q) * sum(path) ** 2
    return total


def exact_cond(p):
    on, first, second = jax.nn.sigmoid(p["a"]), jax.nn.sigmoid(p["a"]), jax.nn.sigmoid(-2 * p["a"])
    return on * (first * 4 + (1 - first)) + (1 - on) * second


def exact_normal_scan(p):
    mean, loading = p["a"] * (1 + 1.5 + 1.75), np.array([1 + 0.5 + 0.25, 1 + 0.5, 1.0])
    return mean**2 + (loading**2).sum()


HANDLED = {
    "scan, Reinforce": (scan_guide, exact_scan, {"x": Reinforce(2.0)}),
    "scan, default": (scan_guide, exact_scan, {}),
    "scan, Reparam": (normal_scan_guide, exact_normal_scan, {"x": Reparam()}),
    "scan, Reinforce of normals": (normal_scan_guide, exact_normal_scan, {"x": Reinforce(None)}),
    "cond, Reinforce": (cond_guide, exact_cond, {"x": Reinforce(1.0), "flag": Reinforce(1.0)}),
    "cond, Enum outside": (cond_guide, exact_cond, {"x": Reinforce(1.0), "flag": Enum()}),
    "cond, MVD outside": (cond_guide, exact_cond, {"x": Reinforce(1.0), "flag": MVD()}),
}


@pytest.mark.parametrize("case", costly(HANDLED, ["scan, Reinforce", "cond, MVD outside"]))
def test_control_flow_that_is_handled(case):
    guide, exact, estimators = HANDLED[case]
    E = expectation(squared, lambda: None, guide, estimators=estimators)
    assert z_scores(E, {"a": 0.3}, jax.grad(exact)({"a": 0.3}))["a"] < 4


@pytest.mark.parametrize("estimator", [Enum(), MVD()], ids=["Enum", "MVD"])
@pytest.mark.parametrize("guide", [scan_guide, cond_guide])
def test_control_flow_that_is_refused(guide, estimator):
    E = expectation(squared, lambda: None, guide, estimators={"x": estimator})
    with pytest.raises(EstimatorError, match="inside scan or cond"):
        jax.grad(lambda p: E(KEY, p))({"a": 0.3})


def test_parameters_inside_control_flow_are_refused():
    def guide():
        scan(
            lambda c, _: (c, numpyro.sample("x", dist.Normal(numpyro.param("a", 0.3), 1.0))),
            0.0,
            None,
            length=3,
        )

    with pytest.raises(EstimatorError, match=r"move its numpyro\.param statement before the loop"):
        expectation(squared, lambda: None, guide).init(KEY)


@pytest.mark.parametrize(
    "estimator", [Enum(), MVD(), Reinforce(1.0), None], ids=["Enum", "MVD", "Reinforce", "default"]
)
@pytest.mark.parametrize("guide", [vmap_guide, jit_guide, lax_scan_guide])
@pytest.mark.parametrize("objective", costly(["square", "elbo"], ["elbo"]))
@pytest.mark.quick_cases(6)
def test_draws_that_cannot_be_seen_are_refused(guide, estimator, objective):
    """Raw jit, vmap and lax.scan around a sample statement: never a silent zero."""
    if guide is lax_scan_guide and isinstance(estimator, Enum):
        estimator = Reparam()  # a normal site
    E = expectation(
        OBJECTIVES[objective], lambda: None, guide, estimators={"x": estimator} if estimator else {}
    )
    for _ in range(2):  # a second time: nothing may hide in a cache
        with pytest.raises(EstimatorError, match=r"inside jax\.jit"):
            jax.grad(lambda p: E(KEY, p))({"a": 0.3})
