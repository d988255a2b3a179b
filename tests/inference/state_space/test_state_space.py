"""State-space smoothing, against dense algebra and other libraries."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.state_space.matern import (
    Kernel,
    discretize,
    state_space_prior,
    stationary_covariance,
    step_rate,
)
from inference.state_space.smoother import decompose_ldl, smooth
from inference.state_space.whitened import draw_bridge, function_values, unwhiten

NOISE = 0.01


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def matern(p, x, z, lengthscale):
    d = np.abs(np.subtract.outer(x, z)) * step_rate(p) / lengthscale
    return np.exp(-d) * (1, 1 + d, 1 + d + d**2 / 3)[p]


def kernel_of(lengthscale, variances, constant=None):
    return Kernel(jnp.asarray(lengthscale), constant, jnp.asarray(variances))


def irregular(n, seed=0):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 10, n))
    return x, np.sin(x) + 0.1 * rng.normal(size=n)


def dense_answer(p, x, y, new, lengthscale, variance=1.0):
    """Mean and variance at new positions, and log evidence, by a Cholesky factor."""
    S = variance * matern(p, x, x, lengthscale) + NOISE * np.eye(len(x))
    k = variance * matern(p, new, x, lengthscale)
    solved = np.linalg.solve(S, np.column_stack([y, k.T]))
    evidence = -0.5 * (y @ solved[:, 0] + np.linalg.slogdet(S)[1] + len(x) * np.log(2 * np.pi))
    return k @ solved[:, 0], variance - np.einsum("ni,in->n", k, solved[:, 1:]), evidence


def smoothed_regression(p, x, y, lengthscale, parallel, variance=1.0, dtype=float):
    information, precision = (
        jnp.asarray(y / NOISE, dtype)[:, None],
        jnp.full((len(x), 1, 1), 1 / NOISE, dtype),
    )
    kernel = Kernel(jnp.asarray(lengthscale, dtype), None, jnp.asarray([variance], dtype))
    computed = state_space_prior(p, kernel, jnp.asarray(x, dtype))
    return jax.jit(smooth, static_argnums=3)(computed, information, precision, parallel)


SLOW = pytest.mark.slow  # the parallel path compiles for long
PATHS = [(p, 300, False) for p in (0, 1, 2)] + [(0, 20, True)]
PATHS += [pytest.param(p, 1461, False, marks=SLOW) for p in (0, 1, 2)]
PATHS += [
    pytest.param(p, n, True, marks=SLOW)
    for p, n in ((0, 300), (1, 300), (2, 300), (0, 1461), (1, 1461), (2, 1461))
]


@pytest.mark.parametrize(("p", "n", "parallel"), PATHS)
@pytest.mark.quick_cases(2)
def test_smoother_equals_the_dense_process(p, n, parallel):
    x, y = irregular(n)
    mean, variance, evidence = dense_answer(p, x, y, x, 0.7)
    found = smoothed_regression(p, x, y, 0.7, parallel)
    np.testing.assert_allclose(found.mean[:, 0], mean, atol=1e-9)
    np.testing.assert_allclose(found.covariance[:, 0, 0], variance, atol=1e-10)
    of_data = -0.5 * (n * np.log(2 * np.pi * NOISE) + (y**2).sum() / NOISE)
    assert float(found.log_normalizer) + of_data == pytest.approx(evidence, abs=1e-7)


@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.quick_cases(1)
def test_single_precision(p):
    x, y = irregular(1461)
    mean, _, _ = dense_answer(p, x, y, x, 0.7)
    found = smoothed_regression(p, x, y, 0.7, False, dtype=np.float32)
    assert found.mean.dtype == np.float32
    np.testing.assert_allclose(found.mean[:, 0], mean, atol=1e-4)
    assert (np.asarray(found.covariance) > 0).all()


@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.quick_cases(1)
def test_new_positions_are_states_without_information(p):
    x, y = irregular(200)
    new = np.array([-5.0, -0.3, x[0], 3.33, x[17], x[17] + 7e-7, 9.99, 10.5, 40.0])
    mean, variance, _ = dense_answer(p, x, y, new, 0.7, 2.0)
    every = np.concatenate([x, new])
    order = np.argsort(every, kind="stable")
    known = (np.arange(len(every)) < len(x))[order]
    values = np.where(known, np.concatenate([y, new])[order], 0.0)
    computed = state_space_prior(p, kernel_of(0.7, [2.0]), jnp.asarray(every[order]))
    found = jax.jit(smooth)(
        computed, jnp.asarray(values / NOISE)[:, None], jnp.asarray(known / NOISE)[:, None, None]
    )
    at = np.argsort(order)[len(x) :]
    np.testing.assert_allclose(found.mean[at, 0], mean, atol=1e-8)
    np.testing.assert_allclose(found.covariance[at, 0, 0], variance, atol=1e-8)
    assert (np.asarray(found.covariance) > 0).all() and (
        np.asarray(found.covariance[at]) <= 2 + 1e-12
    ).all()


def test_tinygp_and_gpytorch_agree():
    """Other libraries on the same numbers: the Matern-5/2 process at the data."""
    import tinygp
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from gpytorch.kernels import MaternKernel

    x, y = irregular(150)
    found = smoothed_regression(2, x, y, 0.7, False)
    process = tinygp.GaussianProcess(
        tinygp.kernels.quasisep.Matern52(scale=0.7), jnp.asarray(x), diag=NOISE
    )
    conditioned = process.condition(
        jnp.asarray(y), diag=0.0
    ).gp  # which adds a jitter of 1.5e-8 otherwise
    np.testing.assert_allclose(found.mean[:, 0], conditioned.loc, atol=1e-9)
    np.testing.assert_allclose(found.covariance[:, 0, 0], conditioned.variance, atol=1e-9)
    kernel = MaternKernel(nu=2.5).double()
    kernel.lengthscale = 0.7
    with torch.no_grad():
        K = kernel(torch.tensor(x)[:, None]).to_dense().numpy()
    np.testing.assert_allclose(
        found.mean[:, 0], K @ np.linalg.solve(K + NOISE * np.eye(150), y), atol=1e-6
    )


@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.quick_cases(1)
def test_process_noise_of_small_steps(p):
    """Against quadrature of its integral, where P - A P A' has lost all digits; and against P - A
    P A' elsewhere.
    """
    from scipy.integrate import quad

    def h(u):
        return (np.exp(-u), u * np.exp(-u), u**2 / 2 * np.exp(-u))[p]

    c = 1 / quad(lambda u: h(u) ** 2, 0, np.inf)[0]
    for x in (1e-6, 1e-3, 0.3):
        Q = np.asarray(discretize(p, jnp.asarray([x]))[1][0])
        assert Q[0, 0] == pytest.approx(
            c * quad(lambda u: h(u) ** 2, 0, x, epsabs=0, epsrel=1e-12)[0], rel=1e-9
        )
        scale = np.sqrt(np.diag(Q))
        assert np.linalg.eigvalsh(Q / np.outer(scale, scale)).min() > 1e-5
    A, Q = (np.asarray(part[0]) for part in discretize(p, jnp.asarray([1.7])))
    P = stationary_covariance(p)
    np.testing.assert_allclose(Q, P - A @ P @ A.T, atol=1e-13)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.slow
def test_several_functions_with_a_constant_and_gaps(parallel):
    """Three functions of different variances, coupled by what is known of them, of which there may
    be none or one direction.
    """
    rng = np.random.default_rng(0)
    x, r = np.sort(rng.uniform(0, 10, 60)), 3
    x[5] = x[4]  # a tie
    B = rng.normal(size=(60, 4, r))
    precision = np.einsum("nka,nkb->nab", B, B)
    precision[::3] = 0.0
    precision[1] = np.outer([1, 2, 0.5], [1, 2, 0.5])
    information = np.einsum("nab,nb->na", precision, rng.normal(size=(60, r)))
    variances, constant = np.array([1.0, 0.5, 2.0]), 0.3
    computed = state_space_prior(1, kernel_of(0.5, variances, constant), jnp.asarray(x))
    found = jax.jit(smooth, static_argnums=3)(
        computed, jnp.asarray(information), jnp.asarray(precision), parallel
    )
    K = np.kron(matern(1, x, x, 0.5) + constant, np.diag(variances))
    L = np.zeros_like(K)
    for i in range(60):
        L[r * i : r * i + r, r * i : r * i + r] = precision[i]
    C = np.linalg.solve(np.eye(len(K)) + K @ L, K)
    eta = information.ravel()
    np.testing.assert_allclose(found.mean.ravel(), C @ eta, atol=1e-9)
    for i in range(60):
        np.testing.assert_allclose(
            found.covariance[i], C[r * i : r * i + r, r * i : r * i + r], atol=1e-10
        )
    expected = 0.5 * eta @ C @ eta - 0.5 * np.linalg.slogdet(np.eye(len(K)) + K @ L)[1]
    assert float(found.log_normalizer) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("parallel", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_slope_is_the_derivative_by_hyperparameters(parallel):
    x, y = irregular(40)
    x[5] = x[4]
    information, precision = (
        jnp.asarray(y / NOISE)[:, None] * jnp.ones((1, 2)),
        jnp.tile(jnp.asarray([[5.0, 1.0], [1.0, 3.0]]), (40, 1, 1)),
    )

    def computed(lengthscale, constant, variances):
        return state_space_prior(1, Kernel(lengthscale, constant, variances), jnp.asarray(x))

    values = (jnp.asarray(0.6), jnp.asarray(0.4), jnp.asarray([1.0, 0.5]))
    built, pull = jax.vjp(computed, *values)
    slope = jax.jit(smooth, static_argnums=3)(built, information, precision, parallel).slope
    found = pull(slope)

    def log_z(*values):
        return smooth(computed(*values), information, precision).log_normalizer

    expected = jax.jit(jax.grad(log_z, argnums=(0, 1, 2)))(*values)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7)


def test_directions_give_the_matrix_back():
    rng = np.random.default_rng(0)
    B = rng.normal(size=(20, 5, 3))
    B[10:, :, 2] = B[10:, :, 0]  # of rank two
    matrices = np.einsum("nia,nja->nij", B, B)
    matrices[0] = 0.0
    L, D = decompose_ldl(jnp.asarray(matrices))
    np.testing.assert_allclose(jnp.einsum("nij,nj,nkj->nik", L, D, L), matrices, atol=1e-10)
    assert (np.asarray(D) >= 0).all()


def test_states_follow_the_kernel_and_bridges_the_process():
    """Drawn states have the kernel's covariance, and states drawn between them that of the
    process: Monte Carlo, z < 4.
    """
    x, new, draws = np.array([0.0, 0.4, 0.5, 2.0]), np.array([-0.7, 0.45, 1.1, 2.6]), 20_000
    kernel = kernel_of(0.8, [1.5], 0.3)

    def one(key):
        first, second = jax.random.split(key)
        Z = unwhiten(1, kernel, jnp.asarray(x), jax.random.normal(first, (4, 3, 1)))
        bridge = draw_bridge(1, kernel, jnp.asarray(x), Z, jnp.asarray(new), second)
        return function_values(1, Z)[:, 0], function_values(1, bridge)[:, 0]

    known, drawn = (
        np.asarray(part)
        for part in jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), draws))
    )
    for a, b, here, there in ((known, known, x, x), (known, drawn, x, new)):
        expected = 1.5 * (matern(1, here, there, 0.8) + 0.3)
        products = a[:, :, None] * b[:, None, :]
        z = (products.mean(0) - expected) / (products.std(0) / np.sqrt(draws))
        assert abs(z).max() < 4
    own = 1.5 * 1.3
    assert abs((drawn**2).mean(0) - own).max() < 4 * own * np.sqrt(2 / draws)
