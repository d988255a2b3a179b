"""Fits by programmable variational inference: against conjugate posteriors."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from vi_toys import KEY, Y, count, flip, label, many, mean_of_five, normal_guide, z_of

import bayesdl as bdl
from bayesdl.vi import (
    MVD,
    Enum,
    Reinforce,
    Reparam,
    check_unbiased,
    elbo,
    expectation,
    iwelbo,
    renyi,
    symmetric_kl,
    tempered_elbo,
    wake_phi,
)

POSTERIOR = (Y.sum() / 6, 1 / np.sqrt(6))


EVIDENCE = -2.5 * np.log(2 * np.pi) - 0.5 * np.log(6) - 0.5 * (Y**2).sum() + Y.sum() ** 2 / 12


FITS = {
    "elbo": elbo,
    "renyi": renyi(0.5, K=20),
    "wake": wake_phi(K=50),
    "symmetric": symmetric_kl(K=20),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "renyi" else [pytest.mark.slow]) for n in FITS]
)
def test_objectives_reach_the_conjugate_posterior(name):
    """Mean and sd within 0.01."""
    engine = bdl.VI(
        guide=normal_guide, objective=FITS[name], steps=3000, learning_rate=0.05, num_particles=16
    )
    post = bdl.fit(mean_of_five, Y, engine=engine, progress=False)
    np.testing.assert_allclose(
        [post.raw.params["loc"], post.raw.params["scale"]], POSTERIOR, atol=0.01
    )


@pytest.mark.slow
def test_iwelbo_grows_to_the_evidence():
    """With the fixed guide N(0, 1) the bound grows with K and comes near the evidence.

    It is monotone within 3 standard errors, below the evidence, and near it at K = 100.
    """
    means, errors = [], []
    for K in (1, 2, 5, 20, 100):
        E = expectation(iwelbo(K), mean_of_five, normal_guide)
        values = many(lambda key, E=E: E(key, {"loc": 0.0, "scale": 1.0}, jnp.asarray(Y)))
        means, errors = [*means, values.mean()], [*errors, values.std() / np.sqrt(len(values))]
    for one, two, error in zip(
        means[:-1], means[1:], np.hypot(errors[1:], errors[:-1]), strict=True
    ):
        assert two > one - 3 * error
    assert all(mean < EVIDENCE + 3 * error for mean, error in zip(means, errors, strict=True))
    assert EVIDENCE - means[-1] < 0.02


@pytest.mark.parametrize(
    "guide", ["mean-field", pytest.param("full-rank", marks=pytest.mark.slow), "laplace"]
)
@pytest.mark.slow
def test_named_guides_and_what_comes_back(guide, tmp_path):
    engine = bdl.VI(guide=guide, objective=elbo, steps=1500, learning_rate=0.02)
    post = bdl.fit(mean_of_five, Y, engine=engine, progress=False)
    draws = post.sample(4000)["m"]
    assert abs(draws.mean() - POSTERIOR[0]) < 0.01 + 4 * draws.std() / np.sqrt(4000)
    assert post.diagnose().ok
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=mean_of_five)
    assert back.engine == engine
    np.testing.assert_array_equal(back.samples["m"], post.samples["m"])


@pytest.mark.slow
def test_a_flow_bends_and_comes_back(tmp_path):
    """Along a parabola a flow has a larger bound than a normal guide.

    Its nested parameters are stored whole.
    """

    def parabola():
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        numpyro.sample("b", dist.Normal(a**2, 0.5))

    posts = {
        guide: bdl.fit(
            parabola, engine=bdl.VI(guide=guide, steps=1500, learning_rate=0.01), progress=False
        )
        for guide in ("full-rank", "flow")
    }
    bounds = {
        guide: np.asarray(post.raw.log_weights(KEY, 2000), float) for guide, post in posts.items()
    }
    error = np.hypot(*(weights.std() / np.sqrt(2000) for weights in bounds.values()))
    assert bounds["flow"].mean() > bounds["full-rank"].mean() + 4 * error
    assert bounds["flow"].mean() < 4 * error  # the evidence of no data is 1
    back = bdl.load(posts["flow"].save(tmp_path / "fit.bdl"), model=parabola)
    np.testing.assert_array_equal(back.samples["b"], posts["flow"].samples["b"])


def test_custom_code_is_asked_for_again(tmp_path):
    engine = bdl.VI(guide=normal_guide, steps=200)
    post = bdl.fit(mean_of_five, Y, engine=engine, progress=False)
    path = post.save(tmp_path / "fit.bdl")
    with pytest.raises(bdl.BundleError, match="engine="):
        bdl.load(path, model=mean_of_five)
    back = bdl.load(path, model=mean_of_five, engine=engine)
    np.testing.assert_array_equal(back.samples["m"], post.samples["m"])


def test_discrete_latents_with_a_guide_of_ones_own():
    """A mixture's label, by enumeration: the guide's probability becomes the posterior's."""
    post = bdl.fit(
        label, 1.5, engine=bdl.VI(guide=flip, steps=600, learning_rate=0.1), progress=False
    )
    odds = np.log(0.3 / 0.7) + (1.5**2 - 0.5**2) / 2
    np.testing.assert_allclose(post.raw.params["phi"], odds, atol=1e-3)


@pytest.mark.slow
def test_minibatches_patience_schedules_and_averages():
    x = np.random.default_rng(0).normal(1.0, 1.0, 2000)
    engine = bdl.VI(guide=normal_guide, batch_size=50, steps=4000)
    post = bdl.fit(mean_of_five, x, engine=engine, progress=False)
    assert post.raw.info["stopped"] == 4000
    assert abs(post.raw.params["loc"] - x.sum() / 2001) < 0.5 / np.sqrt(2001)  # half a posterior sd
    engine = bdl.VI(guide=normal_guide, steps=4000, patience=400, optimizer=optax.adam(0.05))
    assert bdl.fit(mean_of_five, Y, engine=engine, progress=False).raw.info["stopped"] < 4000
    beta = optax.linear_schedule(0.0, 1.0, 500)
    warm = bdl.VI(
        guide=normal_guide,
        objective=tempered_elbo(beta=beta),
        steps=2000,
        learning_rate=0.05,
        num_particles=16,
    )
    found = bdl.fit(mean_of_five, Y, engine=warm, progress=False).raw
    np.testing.assert_allclose([found.params["loc"], found.params["scale"]], POSTERIOR, atol=0.03)
    assert "tempered_elbo(beta=" in found.info["objective"]


@pytest.mark.parametrize(
    "baseline",
    [
        "average",
        pytest.param(lambda y: numpyro.param("b", 0.0) + 0.0 * y.sum(), marks=pytest.mark.slow),
    ],
    ids=["average", "learned"],
)
@pytest.mark.slow
def test_baselines_with_parameters(baseline):
    """They change the variance, not the gradient, and move towards the objective's mean."""
    engine = bdl.VI(
        guide=normal_guide,
        steps=1500,
        learning_rate=0.05,
        num_particles=8,
        estimators={"m": Reinforce(baseline)},
    )
    post = bdl.fit(mean_of_five, Y, engine=engine, progress=False)
    name = next(name for name in post.raw.params if name in ("b", "baseline/draw 1/m"))
    assert abs(post.raw.params[name] - EVIDENCE) < 0.5
    np.testing.assert_allclose(
        [post.raw.params["loc"], post.raw.params["scale"]], POSTERIOR, atol=0.05
    )


@pytest.mark.slow
def test_the_annotated_program_is_a_numpyro_program():
    def annotated(y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0), infer={"estimator": Reparam(stick=True)})
        with numpyro.plate("rows", 5):
            numpyro.sample("y", dist.Normal(m, 1.0), obs=y)

    assert Predictive(annotated, num_samples=3)(KEY)["y"].shape == (3, 5)
    svi = SVI(annotated, AutoNormal(annotated), optax.adam(0.02), Trace_ELBO())
    assert np.isfinite(svi.run(KEY, 20, y=jnp.asarray(Y), progress_bar=False).losses).all()
    post = bdl.fit(annotated, y=Y, engine=bdl.NUTS(100, 100, 1), progress=False)
    assert post.samples["m"].shape == (1, 100)


@pytest.mark.slow
def test_numpyros_losses_are_biased_with_a_discrete_guide_and_these_are_not():
    model, guide = label, flip
    for loss, ours in ((Trace_ELBO(), elbo), (RenyiELBO(alpha=0.0, num_particles=2), iwelbo(2))):
        exact = jax.grad(
            lambda phi, ours=ours: expectation(ours, model, guide, estimators={"z": Enum()})(
                KEY, {"phi": phi}, 1.5
            )
        )
        expected = float(exact(0.4))
        theirs = many(
            lambda k, loss=loss: jax.grad(
                lambda phi: -loss.loss(k, {"phi": phi}, model, guide, 1.5)
            )(0.4)
        )
        assert z_of(theirs, expected) > 10
        report = check_unbiased(ours, model, guide, {"phi": 0.4}, 1.5, estimators={"z": MVD()})
        assert report.ok and report.method == "enumeration"
        np.testing.assert_allclose(report.oracle["phi"], expected, atol=1e-5)


@pytest.mark.slow
def test_masks_leave_scores_whole():
    """A masked site is drawn all the same, so its score must be there."""

    def guide():
        with numpyro.handlers.mask(mask=jnp.array([True, False])), numpyro.plate("two", 2):
            numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", jnp.array([0.3, -0.4]))))

    report = check_unbiased(
        count, lambda: None, guide, estimators={"z": Reinforce(1.0)}, num_samples=5000
    )
    assert report.ok and (np.abs(report.oracle["phi"]) > 0.1).all()


def test_a_models_own_parameters_are_in_its_predictions(tmp_path):
    def model(y=None):
        theta = numpyro.param("theta", 0.0)
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        mu = numpyro.deterministic("mu", theta + 0.1 * z)
        with numpyro.plate("rows", 20):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    y = 5 + np.random.default_rng(0).normal(size=20)
    post = bdl.fit(model, y=y, engine=bdl.VI(steps=1500, learning_rate=0.05), progress=False)
    assert abs(post.sample(1000)["mu"].mean() - y.mean()) < 0.1
    np.testing.assert_allclose(post.predict().mean, y.mean(), atol=0.1)
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=model)
    np.testing.assert_array_equal(back.predict().mean, post.predict().mean)


def test_another_guide_is_refused_on_loading(tmp_path):
    path = bdl.fit(
        mean_of_five, Y, engine=bdl.VI(guide=normal_guide, steps=100), progress=False
    ).save(tmp_path / "fit.bdl")

    def other(y):
        numpyro.sample("m", dist.Normal(numpyro.param("mu", -50.0), 1.0))

    with pytest.raises(bdl.BundleError, match="give the guide that was fitted"):
        bdl.load(path, model=mean_of_five, engine=bdl.VI(guide=other))
