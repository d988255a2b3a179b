"""The kernel of wide networks against neural-tangents, simulation, finite networks and NumPyro.

`neural_tangents.npz` holds matrices of neural-tangents 0.6.5 at random rows, some of them repeated
and opposite. `make_neural_tangents.py` beside it wrote them, in an environment of its own.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers

import bayesdl as bdl
from bayesdl.bnn.networks import MLP
from bayesdl.functional.draws import draw_functions
from bayesdl.gp.wide.activations import NAMED, Series, find_activation
from bayesdl.kernels import WideNetwork

GOLDEN = pathlib.Path(__file__).with_name("neural_tangents.npz")


def built(kernel, num_inputs):
    return kernel.build(lambda site, value, *_: value, "", num_inputs)


@pytest.mark.parametrize("depth", [1, 3, pytest.param(10, marks=pytest.mark.slow)])
def test_kernels_are_those_of_neural_tangents(depth):
    golden = np.load(GOLDEN)
    X, Z = golden["X1"], golden["X2"]
    with jax.enable_x64(True):
        for activation in ("relu", "leaky_relu", "erf", "gelu", "sine", "cosine"):
            for tangent, name in ((False, "nngp"), (True, "ntk")):
                weight = (1.3,) * depth + (0.9,)
                kernel = WideNetwork(depth, activation, weight, 0.2, tangent=tangent)
                K = jax.jit(lambda X, Z, kernel=kernel: built(kernel, 3)(X, Z))(X, Z)
                expected = golden[f"{activation}/{depth}/{name}"]
                np.testing.assert_allclose(K, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", list(NAMED))
def test_products_are_expectations(activation):
    """Against quadrature over two independent normals, and the derivative against differences."""
    phi = find_activation(activation)
    function = {
        "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
        "cosine": jnp.cos,
        **bdl.model.language.NUMPYRO.activations,
    }[activation]
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    a, b, r = 1.7, 0.6, -0.4
    kinked = "relu" in activation
    with jax.enable_x64(True):
        u = a**0.5 * z[:, None]
        v = b**0.5 * (r * z[:, None] + (1 - r**2) ** 0.5 * z[None, :])
        expected = w @ np.asarray(function(jnp.asarray(u)) * function(jnp.asarray(v))) @ w
        arguments = [jnp.asarray(x) for x in (a, b, r * (a * b) ** 0.5)]
        value = float(phi.product(*arguments))
        assert value == pytest.approx(float(expected), abs=2e-3 if kinked else 2e-6)
        up, down = (phi.product(*arguments[:2], arguments[2] + step) for step in (1e-5, -1e-5))
        slope = phi.slope_product(*arguments)
        assert float(slope) == pytest.approx(float(up - down) / 2e-5, abs=1e-7)


def test_any_smooth_function_has_a_series():
    with jax.enable_x64(True):
        r = jnp.linspace(-1, 1, 41)
        for function, name in ((jax.scipy.special.erf, "erf"), (jnp.sin, "sine")):
            for sd in (0.5, 1.0, 2.0):
                a = jnp.full(r.shape, sd**2)
                series, exact = (
                    phi.product(a, a, r * a) for phi in (Series(function), find_activation(name))
                )
                np.testing.assert_allclose(series, exact, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", jax.nn.softplus])
def test_gradients_are_right_on_the_diagonal(activation):
    X = np.random.default_rng(0).normal(size=(3, 2))
    X = np.concatenate([X, X[:1], -X[1:2]])
    kernel = WideNetwork(1, activation)

    def loss(scales):
        sites = dict(zip(("weight_in", "weight_out", "bias"), scales, strict=True))
        K = kernel.build(lambda site, *_: sites[site], "", 2)(X, X)
        return jnp.linalg.slogdet(K + 0.1 * jnp.eye(len(X)))[1]

    with jax.enable_x64(True):
        scales, value = jnp.array([1.2, 0.7, 0.3]), jax.jit(loss)
        steps = 1e-6 * np.eye(3)
        expected = [(value(scales + step) - value(scales - step)) / 2e-6 for step in steps]
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(scales), expected, rtol=1e-5)


def test_curvature_is_finite_on_the_diagonal():
    X = np.array([[0.3, -1.0], [0.3, -1.0], [-0.3, 1.0]])

    def loss(weight):
        kernel = WideNetwork(1, "relu").build(lambda *_: weight, "", 2)
        return jnp.linalg.slogdet(kernel(X, X) + 0.1 * jnp.eye(3))[1]

    with jax.enable_x64(True):
        assert np.isfinite(jax.jit(jax.grad(jax.grad(loss)))(1.2))


def test_the_diagonal_and_single_rows_agree_with_the_matrix():
    with jax.enable_x64(True):
        X = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
        for tangent in (False, True):
            kernel = built(WideNetwork(2, "erf", weight=1.1, bias=0.3, tangent=tangent), 3)
            K = kernel(X, X)
            np.testing.assert_allclose(kernel(X), np.diag(K), rtol=1e-12)
            assert float(kernel.evaluate(X[0], X[1])) == pytest.approx(float(K[0, 1]), rel=1e-12)


def test_the_limit_is_that_of_wide_networks_of_this_prior():
    """Covariances of 4,000 functions of networks of width 200 against the limit's."""
    X = np.random.default_rng(0).normal(size=(5, 2))
    prior = bdl.priors.LayerGaussian((1.5, 1.2, 1.0), (0.5, 0.2, 0.7))
    model = bdl.BNN(hidden=(30, 20), activation="erf", prior=prior)
    net = MLP((200, 200), "erf")
    f = draw_functions(net, net.weight_arrays(2, 1), prior, X, 4000, 0)
    K = np.asarray(built(model.limit().kernel, 2)(X, X))
    np.testing.assert_allclose(f.T @ f / 4000, K, atol=4 * K.max() * np.sqrt(2 / 4000))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: bdl.BNN(scaling="standard"), "grow with its width.*fan_in=True"),
        (lambda: bdl.BNN(prior=bdl.priors.Laplace()), "normal weights with fixed scales"),
        (lambda: bdl.BNN(hidden=()), "hidden layers"),
        (lambda: bdl.BNN(likelihood=bdl.Bernoulli()), "likelihood=bdl.Normal()"),
    ],
)
def test_no_limit_is_refused(model, words):
    with pytest.raises(bdl.ModelError, match=words):
        model().limit()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden": 0}, "at least 1 hidden layer"),
        ({"hidden": 2.5}, "whole number"),
        ({"activation": "swish"}, "'silu'.*or a function"),
        ({"activation": 3}, "a function of arrays"),
        ({"activation": jnp.log}, "finite number"),
        ({"weight": (1.0, 2.0)}, "expected 3 numbers"),
        ({"weight": 0.0}, "positive number"),
        ({"bias": -1.0}, "at least 0"),
        ({"weight": 1.0, "ard": True}, "ard learns"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises((bdl.ModelError, ValueError), match=words):
        WideNetwork(**settings)


def test_deep_networks_are_warned_of():
    with pytest.warns(UserWarning, match="nearly constant"):
        WideNetwork(hidden=11)


def test_a_process_of_it_is_fitted_and_saved(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    y = np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=40)
    model = bdl.GP(WideNetwork(1, "erf", ard=True) + bdl.kernels.Linear())
    post = bdl.fit(model, X, y, engine=bdl.ExactGP(num_restarts=1), progress=False)
    sites = {"kernel.0.weight_in", "kernel.0.weight_out", "kernel.0.bias"}
    assert sites < set(post.raw.params)
    post.save(tmp_path / "wide.bdl")
    loaded = bdl.load(tmp_path / "wide.bdl")
    assert loaded.model == model
    np.testing.assert_array_equal(loaded.predict(X).mean, post.predict(X).mean)
    assert np.corrcoef(post.predict(X).mean, y)[0, 1] > 0.95


def test_zero_columns_change_the_kernel():
    """Sums are divided by the number of inputs, so padded columns are not left out."""
    assert not bdl.GP(WideNetwork(weight=1.0, bias=1.0)).ignores_zero_columns(1, 3)
    assert bdl.GP(bdl.kernels.RBF(lengthscale=1.0, variance=1.0)).ignores_zero_columns(1, 3)


def test_the_program_draws_the_scales():
    program = bdl.GP(WideNetwork(2, ard=True)).program
    X = np.zeros((3, 2))
    with jax.enable_x64(True):
        trace = handlers.trace(handlers.seed(program, 0)).get_trace(X)
    assert trace["kernel.weight_in"]["value"].shape == (2,)
