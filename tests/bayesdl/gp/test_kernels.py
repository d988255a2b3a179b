"""Kernels against their formulas pair by pair, their algebra, their prints and their refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tinygp

import bayesdl as bdl
from bayesdl import kernels
from bayesdl.gp import matrices
from bayesdl.kernels import RBF, Changepoint, FractionalBrownian, Linear, SpectralMixture

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(6, 2)), np.zeros((1, 2)), np.ones((2, 2))])
Z = RNG.normal(size=(4, 2))


def fixed(site, value, default, shape):
    return value


def rbf(x, z, lengthscale):
    return np.exp(-np.sum((x - z) ** 2) / (2 * lengthscale**2))


def fractional(x, z, hurst=0.3, variance=1.7, origin=0.2):
    def power(r):
        return np.sqrt(np.sum(r**2)) ** (2 * hurst)

    return variance / 2 * (power(x - origin) + power(z - origin) - power(x - z))


def mixture(x, z):
    r, total = x - z, 0.0
    for frequency, bandwidth, weight in zip((0.4, 1.1), (0.2, 0.3), (1.5, 0.5), strict=True):
        decay = np.exp(-2 * np.pi**2 * np.sum((bandwidth * r) ** 2))
        total += weight * decay * np.cos(2 * np.pi * np.sum(frequency * r))
    return total


def change(x, z):
    s, t = (1 / (1 + np.exp(-(row[1] - 0.3) / 0.5)) for row in (x, z))
    return (1 - s) * rbf(x, z, 0.5) * (1 - t) + s * 2.0 * (x @ z) * t


CASES = {
    "fractional": (FractionalBrownian(0.3, 1.7, 0.2), fractional),
    "mixture": (SpectralMixture(2, (0.4, 1.1), [0.2, 0.3], (1.5, 0.5)), mixture),
    "changepoint": (Changepoint(RBF(0.5, 1.0), Linear(2.0), 0.3, 0.5, column=1), change),
    "sum": (
        RBF(0.5, 1.0) + 2.0 * RBF(1.5, 1.0),
        lambda x, z: rbf(x, z, 0.5) + 2 * rbf(x, z, 1.5),
    ),
    "product": (
        (RBF(0.5, 1.0) + 1) * FractionalBrownian(0.3, 1.7, 0.2) * tinygp.kernels.ExpSquared(2.0),
        lambda x, z: (rbf(x, z, 0.5) + 1) * fractional(x, z) * rbf(x, z, 2.0),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_matrices_follow_the_formula(name):
    kernel, formula = CASES[name]
    with jax.enable_x64(True):
        built = kernel.build(fixed, "", 2)
        whole, diagonal, pair = (
            built(X, Z),
            built(X),
            built.evaluate(*map(jnp.asarray, (X[0], Z[0]))),
        )
        square = np.asarray(built(X, X))
    np.testing.assert_allclose(whole, [[formula(x, z) for z in Z] for x in X], rtol=1e-10)
    np.testing.assert_allclose(diagonal, [formula(x, x) for x in X], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(pair, whole[0, 0], rtol=1e-12)
    assert np.linalg.eigvalsh(square).min() > -1e-10


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_at_equal_rows(name):
    kernel, _ = CASES[name]
    with jax.enable_x64(True):
        numbers, form = jax.tree.flatten(kernel.build(fixed, "", 2))
        slopes = jax.grad(lambda numbers: jax.tree.unflatten(form, numbers)(X, X).sum())(
            [np.asarray(number, float) for number in numbers]
        )
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_brownian_motion_has_independent_increments():
    times = np.array([[0.0], [0.5], [1.5], [4.0]])
    with jax.enable_x64(True):
        K = np.asarray(FractionalBrownian(0.5, 2.0).build(fixed, "", 1)(times, times))
    increments = np.diff(np.eye(4), axis=0)
    np.testing.assert_allclose(increments @ K @ increments.T, np.diag([1.0, 2.0, 5.0]), atol=1e-12)


@pytest.mark.parametrize(
    "kernel",
    [
        RBF() + kernels.Periodic() * Linear(),
        (RBF(0.5) + 1.0) * Linear(variance=2.0),
        RBF() + (Linear() + kernels.Constant()),
        Changepoint(RBF((1.0, 2.0)), FractionalBrownian(), location=-1.0),
        0.5 * SpectralMixture(2, frequency=(0.5, 1.0)),
        sum([RBF(), Linear(), kernels.WideNetwork(3)]),
    ],
    ids=repr,
)
def test_prints_are_the_python_that_makes_the_kernel(kernel):
    assert eval(repr(kernel), vars(kernels)) == kernel


def test_priors_are_printed_with_their_numbers():
    kernel = RBF(dist.LogNormal(0.5, 1.0), ard=True) * Linear()
    assert repr(kernel) == "RBF(lengthscale=LogNormal(0.5, 1.0), ard=True) * Linear()"


def test_every_part_has_sites_of_its_own():
    kernel = Changepoint(RBF() * RBF(), SpectralMixture(2) + 1.0) + FractionalBrownian()
    shapes = {}

    def record(site, value, default, shape):
        shapes[site] = shape
        return jnp.ones(shape)

    kernel.build(record, "kernel.", 3)
    assert set(shapes) == {
        *("kernel.0.before.0.lengthscale", "kernel.0.before.0.variance"),
        *("kernel.0.before.1.lengthscale", "kernel.0.before.1.variance"),
        *("kernel.0.after.0.frequency", "kernel.0.after.0.bandwidth", "kernel.0.after.0.weight"),
        *("kernel.0.location", "kernel.0.width", "kernel.1.hurst", "kernel.1.variance"),
        "kernel.0.after.1.variance",
    }
    assert shapes["kernel.0.after.0.frequency"] == (2, 3)


def test_a_diagnosis_shows_the_kernel_that_was_learned():
    x = np.linspace(0, 1, 30)[:, None]
    y = np.sin(6 * x[:, 0])
    model = bdl.GP(RBF(lengthscale=0.5) * Linear(1.0) + FractionalBrownian(variance=0.1))
    post = bdl.fit(model, x, y, engine=bdl.ExactGP(num_restarts=1), progress=False)
    hurst = float(post.summary()["value"]["kernel.1.hurst"])
    learned = f"Linear(variance=1.0) + FractionalBrownian(hurst={hurst:.3g}, variance=0.1), sigma="
    assert "RBF(lengthscale=0.5, variance=" in repr(post.diagnose())
    assert learned in repr(post.diagnose())


def test_the_hurst_index_is_found():
    """Calibrated on 200 paths, drawn by their increments, whose covariance is another formula.

    Posterior of H on a grid; the scale is integrated out with p(s^2) ~ 1 / s^2.
    """
    rng, n, grid = np.random.default_rng(1), 60, np.linspace(0.02, 0.98, 25)
    times, steps = np.arange(1.0, n + 1)[:, None], np.arange(n)
    with jax.enable_x64(True):
        matrix = jax.jit(lambda hurst: matrices.Fractional(hurst, 1.0, 0.0)(times, times))
        roots = [np.linalg.cholesky(matrix(hurst)) for hurst in grid]
    inside, errors = 0, []
    for _ in range(200):
        true = rng.uniform(0.1, 0.9)
        far, here, near = (np.abs(steps + step) ** (2 * true) for step in (1.0, 0.0, -1.0))
        covariance = ((far - 2 * here + near) / 2)[np.abs(np.subtract.outer(steps, steps))]
        y = np.cumsum(np.linalg.cholesky(covariance) @ rng.normal(size=n))
        log = [
            -np.log(np.diag(root)).sum() - n / 2 * np.log(np.sum(np.linalg.solve(root, y) ** 2))
            for root in roots
        ]
        weights = np.exp(log - np.max(log))
        weights /= weights.sum()
        inside += 0.05 < np.interp(true, grid, np.cumsum(weights) - weights / 2) < 0.95
        errors.append(weights @ grid - true)
    # 180 with a standard error of 4.2; the error of n increments is about 0.7 / sqrt(n)
    assert 163 <= inside <= 197 and np.sqrt(np.mean(np.square(errors))) < 0.12


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FractionalBrownian(1.2), "expected a number between 0 and 1"),
        (lambda: FractionalBrownian(dist.LogNormal(0.0, 1.0)), "on that interval"),
        (lambda: FractionalBrownian(variance=-1.0), "expected a positive number"),
        (lambda: FractionalBrownian(origin=float("nan")), "a finite number"),
        (lambda: SpectralMixture(0), "whole number of at least 1"),
        (lambda: SpectralMixture(2, (1.0,)), "expected 2 numbers"),
        (lambda: SpectralMixture(2, (1.0, -1.0)), "expected a positive number"),
        (
            lambda: SpectralMixture(2, weight=dist.Normal(np.zeros(2), 1.0)),
            "expected one of a single number",
        ),
        (lambda: Changepoint(RBF(), 3), "Expected a kernel"),
        (lambda: Changepoint(RBF(), Linear(), width=0.0), "expected a positive number"),
        (lambda: Changepoint(RBF(), Linear(), location="x"), "expected a finite number"),
        (lambda: Changepoint(RBF(), Linear(), column=-1), "expected 0 or more"),
        (lambda: RBF() + 0, "expected a positive number"),
        (lambda: -1.0 * RBF(), "expected a positive number"),
        (lambda: RBF() * "x", "Expected a kernel"),
        (lambda: kernels.Sum(()), "at least one kernel"),
        (lambda: bdl.GP(tinygp.kernels.Matern32() + RBF()), "put it behind"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_a_change_along_a_missing_column_is_refused():
    model = bdl.GP(Changepoint(RBF(), Linear(), column=2))
    with pytest.raises(ValueError, match="the model has 2 inputs"):
        bdl.fit(model, X, X[:, 0], engine=bdl.ExactGP(), progress=False)


def test_numbers_of_numpy_are_constants_and_arrays_are_refused():
    assert np.int64(2) * RBF() == np.float32(2) * RBF() == 2 * RBF()
    for both in (lambda: np.array([1.0, 2.0]) * RBF(), lambda: RBF() + np.ones(2)):
        with pytest.raises(TypeError, match="Expected a kernel"):
            both()
