"""The torch engines against the JAX ones: equal programs, equal kernels, equal posteriors."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats
from numpyro.infer.util import log_density
from scipy import stats

import bayesdl as bdl
from bayesdl import priors
from bayesdl.gp import kernels
from bayesdl.model import likelihoods
from bayesdl.model.program import as_model
from bayesdl.priors.base import AbstractPrior
from inference.core.problem import ProblemError
from inference.core.progress import AbstractProgress
from inference.torch import gpytorch_gp, install

torch = pytest.importorskip("torch")
pytest.importorskip("pyro")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def label(value):
    """The id of a parameter: distributions inside it without their addresses."""
    return re.sub(r"<numpyro\S*\.(\w+) object at .*?>", r"\1", str(value))


PRIORS = [
    priors.Gaussian(),
    priors.Gaussian((2.0, 0.5)),
    priors.Gaussian(0.7, fan_in=True),
    priors.Laplace(0.7),
    priors.StudentT(3.0, 0.5),
    priors.Horseshoe(0.3),
    priors.Hierarchical("half_normal", scale=0.5),
    priors.Hierarchical("inverse_gamma", concentration=2.0),
    priors.LayerGaussian((2.0, 0.5), 0.7),
    priors.LayerHierarchical(3.0, (2.0, 1.0), 4.0, 1.0),
]
LIKELIHOODS = [
    likelihoods.Normal(),
    likelihoods.Normal(0.3),
    likelihoods.Normal("heteroscedastic"),
    likelihoods.Normal(dist.LogNormal(-1.0, 0.5)),
    likelihoods.StudentT(),
    likelihoods.StudentT(4.0, 0.5),
    likelihoods.Bernoulli(),
    likelihoods.Categorical(),
    likelihoods.Poisson(),
    likelihoods.NegativeBinomial(),
    likelihoods.NegativeBinomial(5.0),
]
REPRESENTATIVE = [likelihoods.Normal(), likelihoods.Categorical(), likelihoods.NegativeBinomial()]
PAIRS = [(p, v) for p in PRIORS for v in REPRESENTATIVE] + [(PRIORS[0], v) for v in LIKELIHOODS]


def targets_for(likelihood, f, rng):
    if likelihood.kind == "count":
        return rng.poisson(np.exp(f))
    if likelihood.kind == "class":
        return rng.permutation(
            np.arange(len(f)) % (2 if isinstance(likelihood, likelihoods.Bernoulli) else 3)
        )
    return f + 0.3 * rng.normal(size=f.shape)


def bnn_problem(model, columns=1):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    f = np.stack([np.sin(X[:, 0]), X[:, 1]][:columns], axis=-1)
    y = targets_for(model.likelihood, f[:, 0] if columns == 1 else f, rng)
    return model.problem(model.learn_schema(X, y), X, y)


def both_log_densities(problem):
    """log p(y, z) at one prior draw z, by NumPyro and by Pyro."""
    from inference.torch.pyro_nuts import data_tensors

    poutine = install.load("pyro").poutine
    with jax.enable_x64(True):
        draw = problem.prior_sample(jax.random.key(3))
        latents = {name: draw[name] for name in problem.latents}
        args = tuple(np.asarray(a, np.float64) if a.dtype.kind == "f" else a for a in problem.args)
        ours = float(log_density(problem.program, args, {}, latents)[0])
    given = {
        name: torch.tensor(np.asarray(value), dtype=torch.float64)
        for name, value in latents.items()
    }
    conditioned = poutine.condition(problem.structure.pyro_program(), data=given)
    return ours, poutine.trace(conditioned).get_trace(*data_tensors(problem)).log_prob_sum().item()


@pytest.mark.parametrize(("prior", "likelihood"), PAIRS, ids=label)
def test_log_density_is_numpyros(prior, likelihood):
    ours, theirs = both_log_densities(
        bnn_problem(bdl.BNN(hidden=(3,), prior=prior, likelihood=likelihood))
    )
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_shifted_laws_know_their_support():
    """df = 2 + Gamma(2, 0.1): so Pyro's sampler, too, moves on (2, infinity)."""
    poutine = install.load("pyro").poutine
    problem = bnn_problem(bdl.BNN(hidden=(), likelihood=likelihoods.StudentT()))
    distribution = (
        poutine.trace(problem.structure.pyro_program())
        .get_trace(*map(torch.tensor, problem.args))
        .nodes["df"]["fn"]
    )
    assert distribution.support.lower_bound == 2
    assert distribution.log_prob(torch.tensor(5.0)).item() == pytest.approx(
        stats.gamma.logpdf(3.0, 2, scale=10), rel=1e-6
    )


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu", "sine"])
@pytest.mark.parametrize("hidden", [(), (3,), (3, 2)], ids=label)
def test_log_density_of_networks(activation, hidden):
    model = bdl.BNN(hidden=hidden, activation=activation, scaling="standard")
    ours, theirs = both_log_densities(bnn_problem(model))
    assert theirs == pytest.approx(ours, rel=1e-10)


@pytest.mark.parametrize(
    "likelihood", [likelihoods.Normal(), likelihoods.Normal(0.3), likelihoods.StudentT()], ids=label
)
def test_log_density_of_two_targets(likelihood):
    ours, theirs = both_log_densities(
        bnn_problem(bdl.BNN(hidden=(3,), likelihood=likelihood), columns=2)
    )
    assert theirs == pytest.approx(ours, rel=1e-10)


def test_every_prior_and_likelihood_is_covered():
    for module, abstract, tried in (
        (priors, AbstractPrior, PRIORS),
        (likelihoods, likelihoods.AbstractLikelihood, LIKELIHOODS),
    ):
        classes = {
            c
            for c in vars(module).values()
            if inspect.isclass(c) and issubclass(c, abstract) and c is not abstract
        }
        assert {c for c in classes if getattr(c, "in_pyro", True)} == {
            type(entry) for entry in tried
        }


@pytest.mark.parametrize(
    "distribution",
    [
        dist.HalfNormal(2.0),
        dist.Gamma(2.0, 0.5),
        dist.LogNormal(0.1, 1.0),
        dist.Exponential(3.0),
        dist.InverseGamma(2.0, 1.0),
    ],
)
def test_priors_of_parameters_keep_their_density(distribution):
    from bayesdl.interop.pyro import dist_from

    assert dist_from(distribution).log_prob(torch.tensor(0.7)).item() == pytest.approx(
        float(distribution.log_prob(0.7)), rel=1e-5
    )


def test_a_prior_that_pyro_lacks_is_refused():
    from bayesdl.interop.pyro import dist_from

    with pytest.raises(TypeError, match=r"Pyro has no distribution LeftTruncated.*HalfNormal"):
        dist_from(dist.TruncatedNormal(0.0, 1.0, low=0.0))


# Pyro against NumPyro


def assert_same_means(model, X, y, ours, theirs):
    """Means of f at the training rows agree within 4 Monte Carlo standard errors of both runs."""
    posts = [bdl.fit(model, X, y, engine=engine, progress=False) for engine in (ours, theirs)]
    means, errors = [], []
    for post in posts:
        values = post.function_values().astype(float)
        means.append(values.mean((0, 1)))
        errors.append(array_stats.mcse(values, chain_axis=0, draw_axis=1))
    assert np.all(np.abs(means[0] - means[1]) < 4 * np.hypot(*errors))
    assert (
        np.median(np.hypot(*errors)) < 0.1
    )  # in units of the standardised target: otherwise the check says nothing
    assert not posts[1].raw.stats["diverging"].sum() > 5
    return posts


def wave(n):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(n, 1))
    return X, np.sin(2 * X[:, 0]) + 0.3 * rng.normal(size=n)


@pytest.mark.slow
def test_linear_posterior_is_numpyros():
    model = bdl.BNN(hidden=(), prior=priors.Hierarchical())
    posts = assert_same_means(model, *wave(15), bdl.NUTS(500, 1000, 2), bdl.PyroNUTS(150, 200, 2))
    assert posts[0].samples.keys() == posts[1].samples.keys()  # deterministic sites too
    for name, value in posts[1].samples.items():
        assert value.shape[2:] == posts[0].samples[name].shape[2:]
        assert value.dtype == np.float32


@pytest.mark.slow
def test_network_posterior_is_numpyros():
    model = bdl.BNN(hidden=(2,), likelihood=bdl.Normal(0.5))
    assert_same_means(model, *wave(12), bdl.NUTS(500, 2000, 2), bdl.PyroNUTS(150, 200, 2))


def test_pyro_leaves_no_trace_and_repeats_itself():
    pyro = install.load("pyro")
    X, y = wave(8)
    pyro.get_param_store().clear()
    pyro.param("mine", torch.ones(2))
    state = torch.get_rng_state()
    fits = [
        bdl.fit(
            bdl.BNN(hidden=()), X, y, engine=bdl.PyroNUTS(10, 10, 2, compiled=c), progress=False
        )
        for c in (True, True, False)
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert list(pyro.get_param_store()) == ["mine"]
    pyro.get_param_store().clear()
    first, second, interpreted = (fit.samples["layer0.weight"] for fit in fits)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(
        first, interpreted, rtol=1e-3
    )  # rounding, which trajectories amplify
    assert not np.array_equal(first[0], first[1])


def test_pyro_says_where_there_is_no_start():
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(1.0))
    X, y = wave(8)
    problem = model.problem(model.learn_schema(X, y), X, y)
    problem.args[1][0] = np.inf
    with pytest.raises(ProblemError, match="No starting point"):
        bdl.PyroNUTS(10, 10, 1).infer(problem, key=jax.random.key(0))


# GPyTorch

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
def test_svgp_says_that_it_was_stopped_early(num_steps):
    """The bound is 20 to 120 nats below that of 800 steps, though its end is flat."""
    X, y = wave(300)
    engine = bdl.GPyTorchGP("svgp", num_inducing=5, num_steps=num_steps)
    post = bdl.fit(bdl.GP(kernels.RBF()), X, y, engine=engine, progress=False)
    with pytest.warns(UserWarning, match="did not converge"):
        assert not post.diagnose().ok


FITS = {
    "exact": (bdl.GP(kernels.RBF() + kernels.Linear(1.0)), bdl.GPyTorchGP(num_restarts=1)),
    "svgp": (
        bdl.GP(kernels.Matern52(ard=True)),
        bdl.GPyTorchGP("svgp", num_inducing=10, num_steps=30, batch_size=8),
    ),
    "pyro": (bdl.BNN(hidden=(), prior=priors.Horseshoe()), bdl.PyroNUTS(10, 10, 2)),
}


@pytest.mark.parametrize("name", FITS)
def test_bundles_predict_the_same_numbers(name, tmp_path):
    model, engine = FITS[name]
    X, y = wave(25)
    state = torch.get_rng_state()
    post, again = (bdl.fit(model, X, y, engine=engine, progress=False, seed=5) for _ in range(2))
    back = bdl.load(post.save(tmp_path / "fit.bdl"))
    X_new = np.linspace(-2, 2, 9)[:, None]
    for other in (back, again):
        np.testing.assert_array_equal(post.predict(X_new).mean, other.predict(X_new).mean)
        np.testing.assert_array_equal(post.predict(X_new).std, other.predict(X_new).std)
    np.testing.assert_array_equal(
        post.predict(X_new).log_prob(X_new[:, 0]), back.predict(X_new).log_prob(X_new[:, 0])
    )
    assert torch.equal(state, torch.get_rng_state())


def test_progress_adds_up():
    class Counter(AbstractProgress):
        def start(self, total, label):
            self.total, self.done = total, 0

        def advance(self, steps, **facts):
            self.done += steps

        def note(self, message):
            pass

        def close(self):
            pass

    X, y = wave(10)
    for engine, model in (
        (bdl.PyroNUTS(7, 16, 2), bdl.BNN(hidden=())),
        (bdl.GPyTorchGP("svgp", num_steps=73), bdl.GP()),
    ):
        counter = Counter()
        engine.infer(
            model.problem(model.learn_schema(X, y), X, y), key=jax.random.key(0), progress=counter
        )
        assert counter.done == counter.total


# Refusals


def reason(model, engine):
    X, y = wave(10)
    spec = as_model(model)
    return engine.supports(spec.problem(spec.learn_schema(X, y), X, y))


def test_engines_refuse_what_they_cannot_run(monkeypatch):
    import equinox as eqx
    import tinygp

    network = eqx.nn.MLP(1, 1, 4, 1, key=jax.random.key(0))
    assert "bdl.GP" in reason(bdl.BNN(), bdl.GPyTorchGP())
    assert "TinyGP cannot be written in GPyTorch" in reason(
        bdl.GP(tinygp.kernels.Matern52()), bdl.GPyTorchGP()
    )
    assert "bdl.BNN" in reason(bdl.GP(), bdl.PyroNUTS())
    assert "without network=" in reason(bdl.BNN(network=network), bdl.PyroNUTS())
    monkeypatch.setattr(gpytorch_gp, "MAX_ROWS", 5)
    assert "method='svgp'" in reason(bdl.GP(), bdl.GPyTorchGP())
    assert reason(bdl.GP(), bdl.GPyTorchGP("svgp")) is None


def test_missing_torch_says_what_to_install(monkeypatch):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    for model, engine in ((bdl.GP(), bdl.GPyTorchGP()), (bdl.BNN(), bdl.PyroNUTS())):
        assert 'pip install "bayesdl[torch]"' in reason(model, engine)
    monkeypatch.undo()
    with pytest.raises(ImportError, match=r"no_such_module cannot be imported .*bayesdl\[torch\]"):
        install.load("no_such_module")


@pytest.mark.parametrize(
    "make",
    [
        lambda: bdl.GPyTorchGP("sparse"),
        lambda: bdl.GPyTorchGP(num_steps=0),
        lambda: bdl.GPyTorchGP(num_inducing=True),
        lambda: bdl.GPyTorchGP(num_restarts=True),
        lambda: bdl.GPyTorchGP(learning_rate=-1.0),
        lambda: bdl.PyroNUTS(num_samples=0),
        lambda: bdl.PyroNUTS(num_chains=True),
        lambda: bdl.PyroNUTS(target_accept=1.0),
        lambda: bdl.PyroNUTS(max_tree_depth=0),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
