"""Programs and objectives with a mistake in them: one clear error, or a verdict that says so."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

import bayesdl as bdl
from bayesdl import vi
from inference.core.problem import ProblemError
from inference.vi.optimise import warn_of_fall

Y = np.array([0.3, 1.1, 0.7])


def model(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def rate_model(y):
    z = numpyro.sample("z", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def normal_guide(y):
    loc, log_scale = numpyro.param("loc", 0.1), numpyro.param("log_scale", -1.0)
    numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)))


def poisson_guide(y):
    numpyro.sample(
        "z", dist.Poisson(numpyro.param("rate", 1.0, constraint=dist.constraints.positive))
    )


def scale_guide(y):
    numpyro.sample("z", dist.Normal(numpyro.param("loc", 0.1), numpyro.param("scale", 3.0)))


def silent_guide(x):
    numpyro.sample("z", dist.Normal(numpyro.param("loc", 0.1), 1.0))


def no_values(p, q):
    z = q.sim()
    return p.density(z)


def no_return(p, q):
    q.sim()


def flipped(p, q):
    return -vi.elbo(p, q)


def engine(**settings):
    return bdl.VI(**{"guide": normal_guide, "steps": 100} | settings)


CASES = {
    "a count for a real latent": (
        lambda: bdl.fit(model, Y, engine=engine(guide=poisson_guide)),
        "'z' draws values such as",
    ),
    "a real for a positive latent": (
        lambda: bdl.fit(rate_model, Y, engine=engine()),
        "expected values of the constraint",
    ),
    "sim's tuple as values": (
        lambda: bdl.fit(model, Y, engine=engine(objective=no_values)),
        r"z, log_q = q\.sim\(\)",
    ),
    "no return": (
        lambda: bdl.fit(model, Y, engine=engine(objective=no_return)),
        "must return its value",
    ),
    "other arguments": (
        lambda: bdl.fit(model, y=Y, engine=engine(guide=silent_guide)),
        r"guide cannot be called with the data \(y=\)",
    ),
    "a class in the engine": (lambda: engine(estimators={"z": vi.MVD}), r"write MVD\(\)"),
    "something else in the engine": (
        lambda: engine(estimators={"z": "mvd"}),
        "expected one such as",
    ),
    "no data": (
        lambda: vi.check_unbiased(vi.elbo, model, normal_guide),
        r"model cannot be called with the data \(none\)",
    ),
    "a negative scale": (
        lambda: bdl.fit(model, Y, engine=engine(guide=scale_guide, optimizer=optax.sgd(3.0))),
        r"'scale'\] is a scale or a probability, give its numpyro\.param a constraint",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_are_named(name):
    attempt, message = CASES[name]
    with pytest.raises((ProblemError, ValueError), match=message):
        attempt()


def test_a_class_at_a_site_is_named():
    def guide():
        numpyro.sample(
            "z", dist.Bernoulli(logits=numpyro.param("phi", 0.0)), infer={"estimator": vi.MVD}
        )

    E = vi.expectation(vi.elbo, lambda: numpyro.sample("z", dist.Bernoulli(0.5)), guide)
    with pytest.raises(vi.EstimatorError, match=r"write MVD\(\)"):
        E(jax.random.key(0), {"phi": 0.0})


def test_an_objective_of_the_wrong_sign_is_not_to_be_trusted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        post = bdl.fit(
            model, Y, engine=engine(objective=flipped, steps=1000, learning_rate=0.03), seed=1
        )
        diagnosis = post.diagnose()
    assert not diagnosis.ok
    assert "The ELBO fell from" in str(diagnosis)


def test_a_guide_that_is_the_posterior_is_trusted():
    def exact(y):
        numpyro.sample(
            "z", dist.Normal(numpyro.param("loc", 0.0), 0.5)
        )  # the posterior's scale is 1 / sqrt(4)

    settings = {
        "guide": exact,
        "steps": 2000,
        "learning_rate": 0.05,
        "estimators": {"z": vi.Reparam(stick=True)},
    }
    diagnosis = bdl.fit(model, Y, engine=bdl.VI(**settings)).diagnose()
    assert diagnosis.ok
    assert diagnosis.facts["effective draws of 1000"] > 990


def test_a_bound_that_falls_after_its_best_is_said():
    rng = np.random.default_rng(0)
    rises = np.concatenate([np.linspace(-9, -1, 500), np.full(500, -1.0)]) + rng.normal(
        0, 0.3, 1000
    )
    warn_of_fall(rises, 50)  # warnings are errors here
    falls = np.concatenate([rises, np.linspace(-1, -3, 500)])
    with pytest.warns(UserWarning, match="the objective fell from -"):
        warn_of_fall(falls, 75)
