"""Priors over tables that networks are trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from amortized_toys import SMALL, train
from scipy import stats

import bayesdl as bdl
from bayesdl.data.validation import ModelError
from bayesdl.model.table import TableProgram
from inference.amortized.tasks import Tasks


@pytest.mark.slow
def test_architectures_and_columns_are_drawn():
    """Shares of classes, columns and depths of a prior over networks."""
    model = bdl.RandomBNN(
        depth=(0, 2), width=(2, 8), likelihood=bdl.Categorical(), fewer_classes=True
    )
    tasks = Tasks(model.simulator(5)[0], (2, 4), 20, 5, "tabular")
    batch = jax.jit(lambda key: tasks.draw(key, 500))(jax.random.key(0))
    X, y = np.asarray(batch.X), np.asarray(batch.y)
    assert y.min() == 0 and y.max() == 4
    columns = (X != 0).any(1).sum(1)  # one of few values may be constant
    assert columns.max() == 4 and columns.min() < 3
    np.testing.assert_allclose(X[:, :, 0].mean(1), 0, atol=1e-5)
    sites = jax.vmap(lambda key: tasks.sites(key, batch.X[0])["depth"]["value"])(
        jax.random.split(jax.random.key(1), 600)
    )
    counts = np.bincount(np.asarray(sites), minlength=3)
    assert stats.chisquare(counts).pvalue > 0.001

    latents = {
        name: site["value"]
        for name, site in tasks.sites(jax.random.key(3), batch.X[0]).items()
        if name != "y"
    }
    assert latents["depth"].shape == ()


def test_the_variance_of_random_networks_is_that_of_their_formula():
    """Depth 0 and relevance 1: f = U x / sqrt(p) + c, so Var f = |x|^2 / p + 1, z < 4."""
    model = bdl.RandomBNN(
        depth=(0, 0), relevance=1.0, likelihood=bdl.Normal(0.5), standardize=False
    )
    tasks = Tasks(model.simulator(1)[0], (1, 3), 2, 1)
    X = jnp.array([[1.0, -2.0, 0.0], [0.5, 0.5, 0.0], [0.0, 3.0, 0.0]])
    draw = jax.jit(jax.vmap(lambda key: tasks.sites(key, X)["y"]["value"]))
    y = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    expected = np.asarray((X**2).sum(1) / 2 + 1 + 0.25)
    assert (np.abs(y.var(0) / expected - 1) < 4 * np.sqrt(2 / 4000)).all()


def test_a_mixture_draws_from_each_model_with_its_weight():
    """Two models that differ in their variance: shares and variances of the mixture, z < 4."""
    small, large = (
        bdl.RandomBNN(depth=(0, 0), likelihood=bdl.Normal(scale), standardize=False)
        for scale in (0.1, 3.0)
    )
    mixture = bdl.PriorMixture((small, large), weights=(0.75, 0.25))
    tasks = Tasks(mixture.simulator(1)[0], (1, 1), 2, 1)
    X = jnp.zeros((3, 1))
    sites = jax.jit(
        jax.vmap(
            lambda key: {
                k: v["value"] for k, v in tasks.sites(key, X).items() if k in ("y", "component")
            }
        )
    )
    drawn = sites(jax.random.split(jax.random.key(0), 4000))
    component, y = np.asarray(drawn["component"]), np.asarray(drawn["y"])
    assert abs(component.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    for k, scale in ((0, 0.1), (1, 3.0)):
        within = np.diff(y[component == k], axis=1)[:, 0]  # of two rows, whose common c cancels
        assert abs(within.var() / (2 * scale**2) - 1) < 4 * np.sqrt(2 / len(within))
    X, y = np.arange(6.0)[:, None], np.arange(6.0)
    with pytest.raises(bdl.UnsupportedError, match="discrete"):
        bdl.fit(mixture, X, y, engine=bdl.NUTS(), progress=False)


@pytest.mark.parametrize(
    ("models", "settings", "message"),
    [
        ((), {}, "expected table models"),
        ((bdl.BNN(), "gp"), {}, "expected table models"),
        ((bdl.BNN(), bdl.GP()), {"weights": (0.5, 0.6)}, "expected 2 positive numbers of sum 1"),
        ((bdl.BNN(), bdl.GP(standardize=False)), {}, "must agree in standardize"),
        ((bdl.BNN(), bdl.BNN(likelihood=bdl.Bernoulli())), {}, "must agree in likelihood kind"),
    ],
)
def test_mixtures_of_models_that_do_not_fit_are_refused(models, settings, message):
    with pytest.raises(ModelError, match=message):
        bdl.PriorMixture(models, **settings)


@pytest.mark.slow
def test_classes_that_the_data_lack_have_no_probability():
    model = bdl.RandomBNN(
        depth=(0, 1), width=(2, 4), likelihood=bdl.Categorical(), fewer_classes=True
    )
    pfn = train(model, steps=2, num_inputs=(1, 3), num_classes=5, inputs="tabular", **SMALL)
    X, y = np.random.default_rng(0).normal(size=(9, 2)), np.array(["a", "b", "c"] * 3)
    same = bdl.RandomBNN(
        depth=(0, 1), width=(2, 4), likelihood=bdl.Categorical(), fewer_classes=True
    )
    prediction = bdl.fit(same, X, y, engine=pfn, progress=False).predict(X)
    assert prediction.probs.shape == (9, 3)
    np.testing.assert_allclose(prediction.probs.sum(1), 1, rtol=1e-6)
    assert set(
        bdl.fit(same, X, y, engine=pfn, progress=False).predict(X[:2]).sample(5).ravel()
    ) <= {"a", "b", "c"}
    with pytest.raises(
        bdl.UnsupportedError, match="the data have 6 classes, and it was trained for 5"
    ):
        bdl.fit(same, X, np.arange(9) % 6, engine=pfn, progress=False)


def test_another_models_network_is_refused():
    """Kernels that are code have the same name in data, and are not the same."""
    import tinygp

    from bayesdl.amortized.requirements import same_program

    one, other = (
        bdl.GP(kernel(0.5), bdl.Normal(0.1))
        for kernel in (tinygp.kernels.ExpSquared, tinygp.kernels.Matern32)
    )
    programs = [TableProgram(model, 1) for model in (one, other)]
    assert same_program(programs[0], programs[0])
    assert not same_program(*programs)


@pytest.mark.slow
def test_classes():
    model = bdl.BNN(hidden=(), likelihood=bdl.Bernoulli(), standardize=False)
    pfn = train(model, steps=400, learning_rate=3e-3, **SMALL)
    X = np.linspace(-2, 2, 10)[:, None]
    y = np.where(X[:, 0] > 0, "yes", "no")
    prediction = bdl.fit(model, X, y, engine=pfn, progress=False).predict(np.array([[-2.0], [2.0]]))
    np.testing.assert_allclose(prediction.probs.sum(1), 1, rtol=1e-6)
    assert prediction.probs[0, 0] > 0.6 and prediction.probs[1, 1] > 0.6
