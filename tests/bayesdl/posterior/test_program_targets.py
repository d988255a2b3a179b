"""What programs predict: classes of any shape, and distributions without formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import Predictive

import bayesdl as bdl
from bayesdl.posterior.core import latent_draws

RNG = np.random.default_rng(0)
ROWS = 6
ENGINE = bdl.Laplace()


@pytest.fixture(autouse=True)
def ranks_as_numpyro_promotes_them():
    with jax.numpy_rank_promotion("allow"):
        yield


def fitted(make, y, plate=True):
    """A program whose one latent site is the argument of a distribution."""

    def program(y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        if not plate:
            numpyro.sample("y", make(mu), obs=y)
            return
        with numpyro.plate("rows", ROWS):
            numpyro.sample("y", make(mu), obs=y)

    return bdl.fit(program, y=y, engine=ENGINE, progress=False), program


def logits(mu, *shape):
    return jnp.broadcast_to(jnp.stack([mu, jnp.zeros(()), jnp.ones(())]), (*shape, 3))


CLASSES = {
    "ordinal": (
        lambda mu: dist.OrderedLogistic(mu, jnp.array([-1.0, 1.0])),
        RNG.integers(0, 3, ROWS),
        True,
    ),
    "matrix": (
        lambda mu: dist.Categorical(logits=logits(mu, ROWS, 2)),
        RNG.integers(0, 3, (ROWS, 2)),
        False,
    ),
    "event": (
        lambda mu: dist.Categorical(probs=jax.nn.softmax(logits(mu))).expand([ROWS]).to_event(1),
        RNG.integers(0, 3, ROWS),
        False,
    ),
    "masked": (
        lambda mu: dist.Categorical(logits=logits(mu, ROWS)).mask(jnp.arange(ROWS) > 0),
        RNG.integers(0, 3, ROWS),
        False,
    ),
    "two classes": (
        lambda mu: dist.Bernoulli(logits=mu * jnp.ones((ROWS, 2))),
        RNG.integers(0, 2, (ROWS, 2)),
        False,
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.quick_cases(2)
def test_classes_of_any_shape(kind):
    make, y, plate = CLASSES[kind]
    post, program = fitted(make, y, plate)
    prediction = post.predict()
    drawn = Predictive(program, latent_draws(post))(jax.random.key(0))["y"]
    shares = np.stack([np.mean(drawn == k, axis=0) for k in range(prediction.probs.shape[-1])], -1)
    assert prediction.probs.shape[:-1] == y.shape
    # standard errors of shares of 1000 draws
    np.testing.assert_allclose(prediction.probs, shares, atol=4 * 0.5 / np.sqrt(len(drawn)))
    np.testing.assert_allclose(prediction.probs.sum(-1), 1, rtol=1e-6)
    with pytest.raises(AttributeError, match="Class labels have no mean"):
        prediction.mean  # noqa: B018
    scores = post.score(y=y)
    assert all(np.isfinite(value) for value in scores.values())
    seen = np.ones(y.shape, bool)
    seen.flat[0] = kind != "masked"
    hits = np.mean((prediction.label == y)[seen])
    assert scores["accuracy"] == pytest.approx(hits)
    assert post.check_predictive().table["observed"].sum() == pytest.approx(1)
    assert len(prediction.to_pandas()) == y.size
    assert prediction.sample(3).shape == (3, *y.shape)


def test_ordered_classes_have_quantiles():
    make, y, plate = CLASSES["ordinal"]
    prediction = fitted(make, y, plate)[0].predict()
    below = prediction.probs.cumsum(-1)
    for level, found in zip((0.1, 0.5, 0.9), prediction.quantile([0.1, 0.5, 0.9]), strict=True):
        # the first class with P(y <= class) >= level
        np.testing.assert_array_equal(found, (below >= level).argmax(-1))
    np.testing.assert_array_equal(prediction.interval(0.8), prediction.quantile([0.1, 0.9]))
    with pytest.raises(ValueError, match="expected a probability between 0 and 1"):
        prediction.interval(90.0)
    with pytest.raises(AttributeError, match="no quantile"):
        fitted(*CLASSES["two classes"])[0].predict().quantile(0.5)


NUMBERS = {
    "counts of categories": (
        lambda mu: dist.Multinomial(5, probs=jax.nn.softmax(logits(mu))),
        RNG.multinomial(5, [0.2, 0.3, 0.5], ROWS),
    ),
    "zero inflated": (
        lambda mu: dist.ZeroInflatedPoisson(0.3, jnp.exp(mu)),
        RNG.poisson(1, ROWS),
    ),
    "mixture": (
        lambda mu: dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.array([0.5, 0.5])), dist.Normal(jnp.stack([mu, mu + 1]), 1.0)
        ),
        RNG.normal(size=ROWS),
    ),
    "truncated": (
        lambda mu: dist.LeftTruncatedDistribution(dist.Laplace(mu, 1.0), low=0.0),
        np.abs(RNG.normal(size=ROWS)),
    ),
    "transformed": (
        lambda mu: dist.TransformedDistribution(
            dist.Normal(mu, 1.0), dist.transforms.SigmoidTransform()
        ),
        RNG.uniform(0.1, 0.9, ROWS),
    ),
    "rows of vectors": (
        lambda mu: dist.MultivariateNormal(mu * jnp.ones(2), jnp.eye(2)),
        RNG.normal(size=(ROWS, 2)),
    ),
    "shares": (
        lambda mu: dist.Dirichlet(jnp.exp(mu) * jnp.ones(3)),
        RNG.dirichlet(np.ones(3), ROWS),
    ),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.quick_cases(2)
def test_numbers_of_any_distribution(kind):
    make, y = NUMBERS[kind]
    post, program = fitted(make, y)
    prediction = post.predict()
    drawn = np.asarray(Predictive(program, latent_draws(post))(jax.random.key(0))["y"])
    error = drawn.std(0) / np.sqrt(len(drawn))
    np.testing.assert_array_less(np.abs(prediction.mean - drawn.mean(0)), 5 * error)
    np.testing.assert_allclose(prediction.std, drawn.std(0), rtol=0.25)
    low, high = prediction.interval(0.9)
    inside = np.mean((low <= drawn) & (drawn <= high), axis=0)
    assert np.all(inside > 0.85)
    assert all(np.isfinite(value) for value in post.score(y=y).values())
    post.check_predictive()


def test_a_distribution_without_a_mean():
    post, _ = fitted(lambda mu: dist.Cauchy(mu, 1.0), RNG.normal(size=ROWS))
    prediction = post.predict()
    with pytest.warns(UserWarning, match="no mean at 6 of 6 predicted values"):
        assert np.isnan(prediction.mean).all()
    scores = post.score(y=np.zeros(ROWS))
    assert "rmse" not in scores
    assert all(np.isfinite(value) for value in scores.values())
    assert post.function_values() is None
