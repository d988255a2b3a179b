"""Weight priors p(w): one small class each, used as `BNN(prior=...)`.

A prior draws the arrays of weights of a network, each described by a `WeightArray`, as sites of
a NumPyro program. Shapes and scales refer to the arrays as the network holds them: with NTK
scaling a layer computes W x / sqrt(fan_in) + b, so a unit scale is the usual choice.

From the inside out: `base.py` defines the abstract prior, the description of an array, and what
all priors share. `weights.py` has priors with given settings (normal, Laplace, Student-t,
horseshoe, hierarchical) and `bursts.py` a prior whose large weights lie side by side.
`family.py` defines priors that `bdl.match_prior` can tune: their numbers as unconstrained
arrays and back. `layers.py` has the families with one scale or one distribution of scales per
layer, `flow.py` a normalising flow over the scales of all layers, and `spectral.py` the prior
of a network of sines that follows a kernel without tuning.
"""

from __future__ import annotations

from bayesdl.priors.base import WeightArray
from bayesdl.priors.bursts import Bursts
from bayesdl.priors.flow import ScaleFlow
from bayesdl.priors.layers import LayerGaussian, LayerHierarchical
from bayesdl.priors.spectral import Spectral
from bayesdl.priors.weights import Gaussian, Hierarchical, Horseshoe, Laplace, StudentT
from inference.renaming import renamed_names

__all__ = [
    "Bursts",
    "Gaussian",
    "Hierarchical",
    "Horseshoe",
    "Laplace",
    "LayerGaussian",
    "LayerHierarchical",
    "ScaleFlow",
    "Spectral",
    "StudentT",
    "WeightArray",
]

__getattr__ = renamed_names(__name__, {"Leaf": "WeightArray"})
