"""Small networks and targets of functional priors."""

import numpy as np

import bayesdl as bdl
from bayesdl import priors
from bayesdl.gp import kernels

LINE = np.linspace(-6, 6, 100)[:, None]


SMOOTH = bdl.GP(kernels.RBF(lengthscale=0.6, variance=1.0), standardize=False)


SMALL = bdl.BNN(hidden=(20,), standardize=False)


FAMILIES = {
    "gaussian": priors.LayerGaussian(),
    "hierarchical": priors.LayerHierarchical(),
    "flow": priors.ScaleFlow(),
}


def arcsine(X, weight, bias):
    """The kernel of a wide network with one hidden layer of erf units (Williams 1998)."""
    inner = weight[0] ** 2 * X @ X.T / X.shape[1] + bias[0] ** 2
    size = np.sqrt(1 + 2 * np.diag(inner))
    return weight[1] ** 2 * 2 / np.pi * np.arcsin(2 * inner / np.outer(size, size)) + bias[1] ** 2


def agrees(values, expected):
    """Whether means of independent rows are as expected, |z| < 4."""
    error = values.std(0) / np.sqrt(len(values))
    return np.abs((values.mean(0) - expected) / np.maximum(error, 1e-9)).max() < 4


TABLE = np.random.default_rng(0).normal(size=(40, 3))
