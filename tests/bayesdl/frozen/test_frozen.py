"""Frozen predictors: what they are asked, what is refused, and what is learned of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError
from inference.distributions.generalised_normal import GeneralisedNormal

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 2))
SPREAD = 0.3 * np.exp(0.8 * X[:, 1])
Y = X[:, 0] + SPREAD * RNG.normal(size=400)
LOGITS = np.stack([X[:, 0], np.zeros(400), X[:, 1]], 1)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
LABELS = (PROBS.cumsum(1) > RNG.uniform(size=(400, 1))).argmax(1)
HELD, NEW = slice(0, 200), slice(200, 400)


class Line:
    """A predictor of numbers."""

    def predict(self, X):
        return np.asarray(X)[:, 0]


class Sure:
    """A classifier that is three times too sure."""

    classes_ = np.arange(3)

    def predict_proba(self, X):
        values = 3 * np.stack([X[:, 0], np.zeros(len(X)), X[:, 1]], 1)
        return np.exp(values) / np.exp(values).sum(1, keepdims=True)


def fit(model, X, y):
    return bdl.fit(model, X, y, engine=bdl.Laplace(), progress=False)


@pytest.mark.parametrize("beta", [0.8, 1.0, 2.0, 5.0])
def test_the_generalised_normal_is_that_of_scipy(beta):
    ours, theirs = GeneralisedNormal(0.5, 1.5, beta), stats.gennorm(beta, loc=0.5, scale=1.5)
    y = np.array([-4.0, -0.2, 0.5, 0.51, 3.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(ours.log_prob(jnp.asarray(y)), theirs.logpdf(y), rtol=1e-12)
        np.testing.assert_allclose(ours.cdf(jnp.asarray(y)), theirs.cdf(y), atol=1e-12)
        np.testing.assert_allclose(ours.variance, theirs.var(), rtol=1e-10)
        drawn = np.asarray(ours.sample(jax.random.key(0), (4000,)))
    assert stats.kstest(drawn, theirs.cdf).pvalue > 0.001
    assert np.isfinite(jax.grad(lambda m: GeneralisedNormal(m, 1.0, beta).log_prob(0.5))(0.5))


@pytest.mark.parametrize("head", ["generalised", "normal", "student"])
def test_numbers_keep_their_mean_and_learn_their_scale(head):
    post = fit(bdl.Frozen(Line(), head=head), X[HELD], Y[HELD])
    pred = post.predict(X[NEW])
    np.testing.assert_allclose(pred.mean, X[NEW, 0], atol=1e-4)
    assert np.corrcoef(np.log(pred.std), np.log(SPREAD[NEW]))[0, 1] > 0.9
    constant = stats.norm(X[NEW, 0], np.std(Y[HELD] - X[HELD, 0])).logpdf(Y[NEW]).mean()
    assert pred.log_prob(Y[NEW]).mean() > constant + 0.1


@pytest.fixture(scope="module")
def cooled():
    return fit(bdl.Frozen(Sure()), X[HELD], LABELS[HELD])


def test_the_temperature_of_a_classifier_is_found(cooled):
    assert cooled.model.head is None
    temperature = np.exp(cooled.samples["log_temperature"])
    # against a grid
    grid = np.linspace(-1, 3, 400)
    logs = np.log(Sure().predict_proba(X[HELD]))
    shifted = logs[None] / np.exp(grid)[:, None, None]
    terms = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    total = terms[:, np.arange(200), LABELS[HELD]].sum(1) - grid**2 / 2
    weights = np.exp(total - total.max()) / np.exp(total - total.max()).sum()
    sd = np.sqrt(weights @ grid**2 - (weights @ grid) ** 2)
    drawn = np.log(temperature)
    assert abs(drawn.mean() - weights @ grid) < 0.2 * sd
    probs = cooled.predict(X[NEW]).probs
    assert -np.mean(np.log(probs[np.arange(200), LABELS[NEW]])) < 1.1


def test_predictions_themselves_are_taken():
    post = fit(bdl.Frozen(None, head="temperature"), PROBS[HELD], LABELS[HELD])
    assert np.abs(post.predict(PROBS[NEW]).probs - PROBS[NEW]).mean() < 0.1
    post = fit(bdl.Frozen(head="normal"), X[HELD], Y[HELD])
    np.testing.assert_allclose(post.predict(X[NEW]).mean, X[NEW, 0], atol=1e-4)


def test_bundles_ask_for_the_predictor_and_know_it(cooled, tmp_path):
    path = cooled.save(tmp_path / "cooled.bdl")
    with pytest.raises(bdl.BundleError, match="predictor="):
        bdl.load(path)
    loaded = bdl.load(path, predictor=Sure())
    np.testing.assert_array_equal(loaded.predict(X[NEW]).probs, cooled.predict(X[NEW]).probs)

    class Other(Sure):
        def predict_proba(self, X):
            return super().predict_proba(-X)

    with pytest.raises(bdl.BundleError, match="not the one that was fitted"):
        bdl.load(path, predictor=Other())


def test_what_predictors_get_wrong_is_refused():
    def learn(model, X=X, y=Y):
        return model.learn_schema(X, y)

    rng = np.random.default_rng()
    with pytest.raises(DataError, match="differently when asked twice"):
        learn(bdl.Frozen(lambda X: np.asarray(X)[:, 0] + rng.normal(size=len(X))))
    with pytest.raises(DataError, match=r"row 3 is \[nan\]"):
        learn(bdl.Frozen(lambda X: np.where(np.arange(len(X)) == 3, np.nan, np.asarray(X)[:, 0])))
    with pytest.raises(DataError, match=r"row 2 sum to 1\.5"):
        wrong = PROBS.copy()
        wrong[2] *= 1.5
        learn(bdl.Frozen(head="temperature"), wrong, LABELS)
    with pytest.raises(DataError, match="label 7, which the predictor does not know"):
        learn(bdl.Frozen(Sure()), X, np.where(LABELS == 0, 7, LABELS))
    with pytest.raises(DataError, match="says 1 of every row"):
        learn(bdl.Frozen(lambda X: np.ones(len(X))))
    with pytest.raises(DataError, match="3 numbers for each row"):
        learn(bdl.Frozen(lambda X: PROBS[: len(X)], head="normal"))
    with pytest.raises(ValueError, match="'generalised', 'normal'"):
        bdl.Frozen(Line(), head="gauss")
    with pytest.raises(ModelError, match="got a class"):
        bdl.Frozen(Line)


def test_torch_modules_answer_in_evaluation_mode_only():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module = torch.nn.Sequential(
        torch.nn.Linear(2, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
    )
    with pytest.raises(ModelError, match=r"module\.eval\(\)"):
        bdl.Frozen(module.train()).learn_schema(X, Y)
    before = [parameter.clone() for parameter in module.parameters()]
    schema = bdl.Frozen(module.eval()).learn_schema(X, Y)
    assert len(schema.answers) == 8
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def linear_network(outputs=1):
    eqx = pytest.importorskip("equinox")
    return eqx.nn.MLP(2, outputs, 6, 1, key=jax.random.key(1))


def test_a_last_layer_is_bayesian_linear_regression_in_closed_form():
    net = linear_network()
    rows = X[:100].astype(np.float32)
    phi = np.asarray(jax.vmap(lambda x: jax.nn.relu(net.layers[0](x)))(rows), np.float64)
    f = np.asarray(jax.vmap(net)(rows), np.float64)[:, 0]
    y = f + 0.3 * np.random.default_rng(1).normal(size=100)
    model = bdl.LastLayer(net, likelihood=bdl.Normal(scale=0.3), scale=0.5)
    post = fit(model, rows, y)
    features = np.column_stack([phi, np.ones(100)])
    precision = features.T @ features / 0.3**2 + np.eye(7) / 0.5**2
    change = np.linalg.solve(precision, features.T @ (y - f) / 0.3**2)
    spread = np.einsum("ij,ji->i", features, np.linalg.solve(precision, features.T))
    pred = post.predict(rows)
    size = np.sqrt(spread)
    # means and sds of 1,000 draws
    np.testing.assert_array_less(np.abs(pred.mean - f - features @ change), 5 * size / 1000**0.5)
    np.testing.assert_allclose(pred.epistemic, size, rtol=5 / np.sqrt(2000))


def test_what_follows_the_last_layer_is_refused():
    eqx = pytest.importorskip("equinox")
    net = eqx.nn.MLP(2, 2, 6, 1, final_activation=jnp.tanh, key=jax.random.key(1))
    with pytest.raises(ModelError, match="not the last operation"):
        bdl.LastLayer(net, bdl.Categorical()).learn_schema(X, LABELS % 2)
    with pytest.raises(DataError, match="3 outputs"):
        bdl.LastLayer(linear_network(3), bdl.Categorical()).learn_schema(X, LABELS % 2)


def test_specs_compare_without_their_predictor():
    one, two = bdl.Frozen(Line()), bdl.Frozen(Line())
    assert one.in_units((2.0,)) == two.in_units((3.0,))
    assert dataclasses.replace(one, predictor=None).likelihood.kind == "real"
