"""Models in Pyro: their log density is NumPyro's, for every prior and likelihood."""

import inspect

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from torch_toys import label, torch

import bayesdl as bdl
from bayesdl import priors
from bayesdl.model import likelihoods
from bayesdl.priors.base import AbstractPrior
from inference.torch import install

pytest.importorskip("pyro")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


# each prior and each likelihood once, then their pairs
PAIRS = [(p, REPRESENTATIVE[0]) for p in PRIORS] + [(PRIORS[0], v) for v in LIKELIHOODS]
PAIRS += [(p, v) for p in PRIORS for v in REPRESENTATIVE[1:]]


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
    conditioned = poutine.condition(problem.structure.pyro_program(problem.program), data=given)
    return ours, poutine.trace(conditioned).get_trace(*data_tensors(problem)).log_prob_sum().item()


@pytest.mark.parametrize(("prior", "likelihood"), PAIRS, ids=label)
@pytest.mark.quick_cases(len(PRIORS) + len(LIKELIHOODS))
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
        poutine.trace(problem.structure.pyro_program(problem.program))
        .get_trace(*map(torch.tensor, problem.args))
        .nodes["df"]["fn"]
    )
    assert distribution.support.lower_bound == 2
    assert distribution.log_prob(torch.tensor(5.0)).item() == pytest.approx(
        stats.gamma.logpdf(3.0, 2, scale=10), rel=1e-6
    )


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu", "sine"])
@pytest.mark.parametrize("hidden", [(), (3,), (3, 2)], ids=label)
@pytest.mark.quick_cases(4)
def test_log_density_of_networks(activation, hidden):
    model = bdl.BNN(hidden=hidden, activation=activation, scaling="standard")
    ours, theirs = both_log_densities(bnn_problem(model))
    assert theirs == pytest.approx(ours, rel=1e-10)


@pytest.mark.parametrize(
    "likelihood", [likelihoods.Normal(), likelihoods.Normal(0.3), likelihoods.StudentT()], ids=label
)
@pytest.mark.quick_cases(1)
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
