"""Mistakes in matching, and what is said of them."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from functional_toys import SMOOTH, TABLE

import bayesdl as bdl
from bayesdl import priors
from bayesdl.gp import kernels

REFUSED = {
    "dimension": (
        lambda: match(to=kernels.RBF(lengthscale=(1.0, 2.0))),
        "gives 2 length scales and the model has 3 inputs",
    ),
    "no matrix": (
        lambda: match(to=lambda key, X, num: np.full((num, len(X)), np.nan)),
        "not finite",
    ),
    "shape": (
        lambda: match(to=lambda key, X, num: np.zeros((num, 2))),
        r"expected \(.*\): \(functions, points, outputs\)",
    ),
    "fewer rows": (
        lambda: match(num_points=100),
        "inputs has 40 rows and num_points=100 with real=0.7 asks for 70",
    ),
    "loss": (lambda: match(loss="frobenius"), "expected one of 'energy', 'sliced_w2'"),
    "family": (lambda: match(family=priors.Horseshoe()), "cannot be matched"),
    "spectral": (lambda: match(family=priors.Spectral()), "follows its kernel without matching"),
    "target": (lambda: match(to=3.0), "a function of"),
    "units": (lambda: match(to=SMOOTH), "their inputs would have different units"),
    "model": (lambda: bdl.match_prior(bdl.GP(), to=SMOOTH, inputs=TABLE), "Expected a bdl.BNN"),
    "sines": (
        lambda: bdl.fit(
            bdl.BNN(prior=priors.Spectral()), TABLE, TABLE[:, 0], engine=bdl.VI(steps=10)
        ),
        "one hidden layer of sines",
    ),
    "layers": (
        lambda: bdl.fit(
            bdl.BNN(prior=priors.LayerGaussian((1.0, 2.0, 3.0))),
            TABLE,
            TABLE[:, 0],
            engine=bdl.VI(steps=10),
        ),
        "has 3 numbers and the network has 2 layers",
    ),
    "wide": (
        lambda: match(family=priors.ScaleFlow(), start_wide=True),
        "start_wide=True is for perceptrons",
    ),
    "log scale": (
        lambda: bdl.prior_report(
            bdl.BNN(likelihood=bdl.Normal(scale="heteroscedastic")), to=kernels.RBF(), inputs=TABLE
        ),
        "has 2 outputs for 1 targets",
    ),
    "flow": (
        lambda: priors.ScaleFlow((0.0, 0.0), (0.3, 0.1), (0.0,) * 3, (0.0,) * 2, (0.0,) * 2),
        "got 2 numbers, expected 1",
    ),
    "part of a flow": (lambda: priors.ScaleFlow(location=(0.0, 0.0)), "give all fields or none"),
    "channels first": (
        lambda: bdl.prior_report(
            bdl.BNN(network=bdl.ConvNet((8, 8, 3), (4,))),
            to=kernels.RBF(),
            inputs=np.random.default_rng(0).normal(size=(60, 3, 8, 8)),
        ),
        "expected .height, width, channels",
    ),
    "brackets": (
        lambda: match(family=priors.LayerGaussian),
        r"brackets are missing, LayerGaussian\(\)",
    ),
    "image": (lambda: bdl.ConvNet((4, 4), (2, 2, 2)), "each stage halves the image"),
}


def match(**settings):
    defaults = {"to": kernels.RBF(), "inputs": TABLE, "steps": 5, "progress": False}
    return bdl.match_prior(bdl.BNN(hidden=(5,)), **(defaults | settings))


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_named(name):
    attempt, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        attempt()


def test_a_matrix_that_is_not_positive_definite_is_refused():
    tinygp = pytest.importorskip("tinygp")

    def indefinite(a, b):
        return -jnp.exp(-jnp.sum((a - b) ** 2))

    with pytest.raises(bdl.ModelError, match="not positive semi-definite, even with"):
        match(to=tinygp.kernels.Custom(indefinite))


def test_missing_tails_are_said():
    model, unsure = (
        bdl.BNN(hidden=(20,)),
        bdl.GP(kernels.RBF(lengthscale=2.0, variance=dist.LogNormal(0.0, 1.5))),
    )
    report = bdl.prior_report(
        model.with_prior(priors.LayerGaussian(1.2, 1.2)), to=unsure, inputs=TABLE
    )
    assert report.lacks_tails and not report.close and "LayerHierarchical" in report.line


def test_priors_of_gpytorch_are_refused():
    gpytorch = pytest.importorskip("gpytorch")
    kernel = gpytorch.kernels.RBFKernel(lengthscale_prior=gpytorch.priors.LogNormalPrior(0.0, 1.0))
    with pytest.raises(bdl.ModelError, match="has priors on its hyperparameters"):
        match(to=kernel)
