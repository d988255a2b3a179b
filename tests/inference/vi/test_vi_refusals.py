"""What programmable variational inference refuses, and what `check_unbiased` sees."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from vi_toys import KEY, Y, count, flip, flips, mean_of_five, normal_guide

import bayesdl as bdl
from bayesdl.vi import (
    MVD,
    EstimatorError,
    Reinforce,
    Reparam,
    add_cost,
    check_unbiased,
    dreg,
    elbo,
    expectation,
    iwelbo,
    marginal,
    normalize,
    renyi,
    tempered_elbo,
)
from inference.core.problem import Problem, ProblemError


def test_what_cannot_be():
    def guide():
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.0)))

    with pytest.raises(EstimatorError, match="Bernoulli has no differentiable sampler"):
        expectation(count, lambda: None, guide, estimators={"z": Reparam()})(KEY, {"phi": 0.0})
    with pytest.raises(
        ProblemError, match="site 'x' has no value, and the program has no latent site 'z'"
    ):
        expectation(elbo, lambda: numpyro.sample("x", dist.Normal(0, 1)), guide)(KEY, {"phi": 0.0})
    with pytest.raises(ProblemError, match="are for objectives"):
        marginal(guide, keep=["z"]).sim()
    with pytest.raises(ProblemError, match="expected a scalar"):
        expectation(lambda p, q: jnp.zeros(2), guide, guide)(KEY, {"phi": 0.0})
    with pytest.raises(ValueError, match="expected 'loo', 'average'"):
        Reinforce("lo")


def test_settings_that_would_be_wrong_are_refused():
    with pytest.raises(ValueError, match="its mean over batches is another objective"):
        bdl.VI(objective=iwelbo(5), batch_size=10)
    with pytest.raises(EstimatorError, match=r"no site 'zz' is drawn, only \['z'\]"):
        expectation(count, lambda: None, flips(3), estimators={"zz": MVD()})(
            KEY, {"phi": jnp.zeros(3)}
        )


@pytest.mark.slow
def test_check_unbiased_sees_a_bias():
    def guide():
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.4)))

    def biased(p, q):
        z, log_q = q.sim()
        return (
            2.0 * z["z"] + log_q - jax.lax.stop_gradient(log_q)
        )  # the score alone has mean zero: still unbiased

    def truly_biased(p, q):
        z, log_q = q.sim()
        return 2.0 * z["z"] - 0.5 * z["z"] * (log_q - jax.lax.stop_gradient(log_q))

    assert check_unbiased(
        biased, lambda: None, guide, oracle="finite differences", estimators={"z": MVD()}
    ).ok
    report = check_unbiased(
        truly_biased, lambda: None, guide, oracle="finite differences", estimators={"z": MVD()}
    )
    assert not report.ok and "BIASED" in repr(report)


def test_check_unbiased_knows_what_it_cannot_enumerate():
    def normal():
        numpyro.sample(
            "z",
            dist.Normal(
                numpyro.param("m", 0.2),
                numpyro.param("s", 0.15, constraint=dist.constraints.positive),
            ),
        )

    def jump(p, q):
        return jnp.where(q.sim()[0]["z"] > 0, 1.0, 0.0)

    report = check_unbiased(jump, lambda: None, normal)
    assert not report.ok and report.method == "finite differences"
    assert check_unbiased(lambda p, q: q.sim()[0]["z"] ** 2, lambda: None, normal).ok

    def scoped():
        with numpyro.handlers.scope(prefix="a"):
            flip()

    report = check_unbiased(
        lambda p, q: 2.0 * q.sim()[0]["a/z"],
        lambda: None,
        scoped,
        estimators={"a/z": Reinforce("average")},
    )
    assert report.ok and report.method == "enumeration" and set(report.z) == {"a/phi"}


def auxiliary(*data):
    u = numpyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    numpyro.sample("m", dist.Normal(u, 1.0))


WRONG = {
    "vmap of sim": (
        lambda p, q: jax.vmap(lambda i: q.sim()[0]["z"] * 1.0)(jnp.arange(3)).sum(),
        flip,
        r"inside jax\.jit",
    ),
    "cost in a program": (
        lambda p, q: q.sim()[0]["z"] * 1.0,
        lambda y: add_cost(3.0 * flip()),
        "not for the programs",
    ),
    "number of draws forgotten": (
        lambda p, q: (p.density(q.sim(3)[0])).mean(),
        normal_guide,
        "give their number too",
    ),
    "missing site": (lambda p, q: p.density({}), lambda y: None, "site 'm' has no value"),
    "auxiliary site": (elbo, auxiliary, "the program has no latent site 'u'"),
    "dreg of a marginal": (dreg(2), marginal(auxiliary, keep=["m"]), "needs an exact density"),
    "renyi of one": (renyi(1.0), lambda y: None, "the limit is the ELBO"),
    "half a gradient": (lambda p, q: normalize(p, q, 3).sim()[1], normal_guide, "particles"),
    "other reverse": (
        elbo,
        marginal(
            auxiliary,
            keep=["m"],
            reverse=lambda kept, y: numpyro.sample("v", dist.Normal(0.0, 1.0)),
        ),
        "it draws \\['v'\\], expected the sites left out, \\['u'\\]",
    ),
    "unknown parameter": (
        elbo,
        normal_guide,
        r"Parameter 'scale' has no value; got values of \['mm'\]",
    ),
    "shared parameter": (
        lambda p, q: q.sim()[0]["z"] * 1.0,
        flip,
        "is a baseline's and a program's",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_silently_wrong_is_refused(name):
    objective, guide, message = WRONG[name]
    estimators = (
        {"z": Reinforce(lambda y: numpyro.param("phi", 0.0))} if name == "shared parameter" else {}
    )
    E = expectation(objective, mean_of_five, guide, estimators=estimators)
    with pytest.raises((ProblemError, EstimatorError, ValueError), match=message):
        E(
            KEY,
            {"mm": 0.0} if name == "unknown parameter" else E.init(KEY, jnp.asarray(Y)),
            jnp.asarray(Y),
        )


def test_engine_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match="an objective with a schedule changes by itself"):
        bdl.VI(objective=tempered_elbo(beta=optax.linear_schedule(0.0, 1.0, 10)), patience=5)
    with pytest.raises(ValueError, match="expected a program, or a marginal of one"):
        bdl.VI(guide=normalize(normal_guide, normal_guide, 3))
    with pytest.warns(UserWarning, match="is linear in the log likelihood"):
        bdl.VI(objective=lambda p, q: elbo(p, q), batch_size=3)


def test_bounds_that_depend_on_other_sites_are_refused_by_named_guides():
    def below(y):
        top = numpyro.sample("top", dist.HalfNormal(3))
        x = numpyro.sample("x", dist.Uniform(jnp.zeros(2), top * jnp.ones(2)).to_event(1))
        numpyro.sample("y", dist.Normal(x.sum(), 1), obs=y)

    def fixed():
        numpyro.sample("x", dist.Uniform(-jnp.ones(2), jnp.ones(2)).to_event(1))

    # NumPyro's transforms between bounds promote ranks themselves
    with jax.numpy_rank_promotion("allow"):
        assert "'x' depend on other sites" in str(bdl.VI().supports(Problem(below, (3.0,))))
        assert bdl.VI().supports(Problem(fixed)) is None
