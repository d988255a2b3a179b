"""Gaussian processes by GPyTorch: kernels are tinygp's, answers exact or near by the bound."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from torch_toys import label, torch, wave

import bayesdl as bdl
from bayesdl.gp import kernels

pytest.importorskip("pyro")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


ONE_INPUT = [
    kernels.RBF(0.5, 1.5),
    kernels.Matern12(0.7, 2.0),
    kernels.Matern32(0.7, 0.5),
    kernels.Matern52(0.3, 1.0),
    kernels.Periodic(1.3, 0.8, 2.0),
    kernels.Linear(1.7),
    kernels.Constant(0.3),
    kernels.RBF(0.5, 1.0) + kernels.Linear(2.0),
    kernels.RBF(0.5, 1.0) * kernels.Periodic(1.3, 0.8, 2.0) + kernels.Constant(0.5),
]


TWO_INPUTS = [
    kernels.RBF((0.5, 2.0), 1.5),
    kernels.RBF(ard=True),
    kernels.Matern12(ard=True),
    kernels.Matern32(ard=True),
    kernels.Matern52(dist.LogNormal(1.0, 0.5), ard=True),
    kernels.Matern52(0.7, dist.Gamma(2.0, 1.0)),
    kernels.Linear() * kernels.RBF(),
    kernels.Periodic(1.3, 0.8, 2.0),
]


@pytest.mark.parametrize(
    ("kernel", "p"), [(k, 1) for k in ONE_INPUT] + [(k, 2) for k in TWO_INPUTS], ids=label
)
@pytest.mark.quick_cases(6)
def test_kernel_matrices_are_tinygps(kernel, p):
    """Kernels agree, also at the starting values of learned hyperparameters.

    `render_with_sites` names these as the program does.
    """
    from bayesdl.interop.gpytorch import render_with_sites

    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(30, p)), rng.normal(size=(11, p))
    rendered, sites = render_with_sites(kernel, p)
    with jax.enable_x64(True):
        built = kernel.build(
            lambda site, value, *_: sites[site]() if site in sites else value, "kernel.", p
        )
        expected = [np.asarray(built(X, other)) for other in (Z, X)]
    with (
        torch.no_grad()
    ):  # where a gradient is asked for, GPyTorch's distance of a point to itself is 1e-8
        got = [
            rendered(torch.tensor(X), torch.tensor(other)).to_dense().numpy() for other in (Z, X)
        ]
    for matrix, reference in zip(got, expected, strict=True):
        np.testing.assert_allclose(matrix, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["RBF", "Matern12", "Matern32", "Matern52"])
@pytest.mark.quick_cases(2)
def test_matrices_from_one_product_are_those_of_pairs(name):
    """Repeated rows, points far from zero and derivatives included."""
    import tinygp

    theirs = {"RBF": "ExpSquared", "Matern12": "Exp"}.get(name, name)
    rng = np.random.default_rng(0)
    X = 1000 + rng.normal(size=(20, 3))
    X[1], Z = X[0], np.concatenate([X[:3], 1000 + rng.normal(size=(4, 3))])

    def ours(lengthscale, pairs):
        given = {"kernel.lengthscale": lengthscale, "kernel.variance": jnp.asarray(2.0)}
        return getattr(kernels, name)(ard=True).build(lambda site, *_: given[site], "kernel.", 3)(
            *pairs
        )

    def tinys(lengthscale, pairs):
        unit = getattr(tinygp.kernels, theirs)(distance=tinygp.kernels.distance.L2Distance())
        return 2.0 * tinygp.transforms.Linear(1 / lengthscale, unit)(*pairs)

    with jax.enable_x64(True):
        lengthscale = jnp.array([0.5, 1.0, 2.0])
        for pairs in ((X, X), (X, Z), (X,)):
            np.testing.assert_allclose(
                ours(lengthscale, pairs), tinys(lengthscale, pairs), atol=1e-9
            )
            slopes = [
                jax.grad(lambda v, f=f, pairs=pairs: f(v, pairs).sum())(lengthscale)
                for f in (ours, tinys)
            ]
            np.testing.assert_allclose(*slopes, rtol=1e-7)


def test_periodic_kernel_of_two_inputs_is_its_formula():
    from bayesdl.interop.gpytorch import render

    X = np.random.default_rng(0).normal(size=(9, 2))
    sines = np.sin(np.pi * (X[:, None] - X[None]) / 1.3) ** 2
    got = render(kernels.Periodic(1.3, 0.8, 2.0), 2)(torch.tensor(X)).to_dense().detach().numpy()
    np.testing.assert_allclose(got, 2.0 * np.exp(-2 * sines.sum(-1) / 0.8**2), rtol=1e-10)


@pytest.mark.parametrize("kernel", ONE_INPUT, ids=label)
@pytest.mark.quick_cases(3)
def test_exact_with_fixed_hyperparameters_is_the_closed_form(kernel):
    X, y = wave(30)
    model = bdl.GP(kernel, likelihood=bdl.Normal(0.3))
    ours, theirs = (
        bdl.fit(model, X, y, engine=engine, progress=False)
        for engine in (bdl.ExactGP(), bdl.GPyTorchGP())
    )
    X_new = np.linspace(-3, 3, 11)[:, None]
    for name in ("mean", "std", "epistemic"):
        np.testing.assert_allclose(
            getattr(theirs.predict(X_new), name), getattr(ours.predict(X_new), name), atol=1e-6
        )
    assert theirs.raw.info["log_evidence"] == pytest.approx(ours.raw.info["log_evidence"], abs=1e-6)


@pytest.mark.parametrize(
    "kernel", [kernels.RBF(), kernels.Matern52(ard=True) + kernels.Linear(1.0)], ids=label
)
@pytest.mark.slow
def test_exact_maximum_likelihood_reaches_the_evidence(kernel):
    X, y = wave(40)
    model = bdl.GP(kernel)
    ours, theirs = (
        bdl.fit(model, X, y, engine=engine, progress=False)
        for engine in (bdl.ExactGP(), bdl.GPyTorchGP())
    )
    assert theirs.raw.info["log_evidence"] > ours.raw.info["log_evidence"] - 0.1
    values = {site: np.asarray(value) for site, value in theirs.raw.info["hyperparameters"].items()}
    assert values.keys() == ours.problem.latents.keys()
    with jax.enable_x64(True):  # the same numbers mean the same process in both libraries
        process = theirs.problem.structure.gaussian_process(values, theirs.problem.args[0])
        evidence = float(process.log_probability(theirs.problem.args[1]))
    assert evidence == pytest.approx(theirs.raw.info["log_evidence"], abs=1e-6)


@pytest.mark.slow
def test_svgp_is_as_close_as_its_bound_says():
    """The gap between evidence and bound is KL(q || p(f | y)), a limit of each marginal's error.

    For normal marginals N(m, s^2) and N(m', s'^2):
    (s^2 / s'^2 - 1 - log(s^2 / s'^2) + (m - m')^2 / s'^2) / 2 <= gap.
    """
    X, y = wave(300)
    model = bdl.GP(kernels.RBF(0.5, 1.5), likelihood=bdl.Normal(0.3))
    engine = bdl.GPyTorchGP("svgp", num_inducing=50, num_steps=400, batch_size=100)
    ours, theirs = (bdl.fit(model, X, y, engine=e, progress=False) for e in (bdl.ExactGP(), engine))
    gap = ours.raw.info["log_evidence"] - theirs.raw.info["elbo"]
    assert 0 < gap < 0.05
    exact, sparse = (post.predict(np.linspace(-2, 2, 25)[:, None]) for post in (ours, theirs))
    ratio = (sparse.epistemic / exact.epistemic) ** 2
    divergence = (
        ratio - 1 - np.log(ratio) + ((sparse.mean - exact.mean) / exact.epistemic) ** 2
    ) / 2
    assert np.all(divergence < gap + 1e-3)  # GPyTorch adds 1e-6 to the diagonal of K_ZZ


@pytest.mark.slow
def test_svgp_learns_hyperparameters():
    """The evidence is within one nat of the best; a posterior sd in one direction is half."""
    X, y = wave(300)
    model = bdl.GP(kernels.RBF())
    engine = bdl.GPyTorchGP("svgp", num_inducing=30, num_steps=800, batch_size=150)
    ours, theirs = (
        bdl.fit(model, X, y, engine=e, progress=False)
        for e in (bdl.ExactGP(num_restarts=1), engine)
    )
    assert 0 < ours.raw.info["log_evidence"] - theirs.raw.info["elbo"] < 1
    assert theirs.raw.info["hyperparameters"]["sigma"] == pytest.approx(
        ours.raw.info["hyperparameters"]["sigma"], rel=0.05
    )
    assert theirs.diagnose().ok


@pytest.mark.parametrize("num_steps", [1, 10, 100])
@pytest.mark.quick_cases(1)
def test_svgp_says_that_it_was_stopped_early(num_steps):
    """The bound is 20 to 120 nats below that of 800 steps, though its end is flat."""
    X, y = wave(300)
    engine = bdl.GPyTorchGP("svgp", num_inducing=5, num_steps=num_steps)
    post = bdl.fit(bdl.GP(kernels.RBF()), X, y, engine=engine, progress=False)
    with pytest.warns(UserWarning, match="did not converge"):
        assert not post.diagnose().ok
