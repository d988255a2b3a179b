"""Weight priors p(w): one small class each, used as `BNN(prior=...)`.

A prior draws the arrays of weights of a network (each a `Leaf`) as NumPyro sites. Shapes and scales refer to the arrays as the
network holds them: with NTK scaling a layer computes W x / sqrt(fan_in) + b, so a unit scale is the usual choice.
"""

from bayesdl.priors.base import Leaf
from bayesdl.priors.bursts import Bursts
from bayesdl.priors.flow import ScaleFlow
from bayesdl.priors.layers import LayerGaussian, LayerHierarchical
from bayesdl.priors.spectral import Spectral
from bayesdl.priors.weights import Gaussian, Hierarchical, Horseshoe, Laplace, StudentT

__all__ = [
    "Bursts",
    "Gaussian",
    "Hierarchical",
    "Horseshoe",
    "Laplace",
    "LayerGaussian",
    "LayerHierarchical",
    "Leaf",
    "ScaleFlow",
    "Spectral",
    "StudentT",
]
