"""The Gaussian process that a network tends to as its layers get wider."""

from __future__ import annotations

import numpy as np

from bayesdl.bnn.networks import MLP, AbstractNetwork
from bayesdl.data.validation import ModelError
from bayesdl.gp.spec import GP
from bayesdl.gp.wide.network import WideNetwork
from bayesdl.model.likelihoods import AbstractLikelihood, Normal
from bayesdl.priors.base import AbstractPrior

# any two widths and any number of inputs: what depends on them has no limit
WIDTHS, NUM_INPUTS = (64, 256), 4


def wide_limit(
    net: AbstractNetwork, prior: AbstractPrior, likelihood: AbstractLikelihood, standardize: bool
) -> GP:
    """Return the process of a network whose hidden layers are infinitely wide.

    Raises:
        ModelError: where there is none, with the cure.
    """
    if not isinstance(net, MLP) or not net.hidden:
        raise ModelError(
            f"limit() needs a network with hidden layers, got {net}: give BNN(hidden=(50,), ...)."
        )
    if not isinstance(likelihood, Normal) or likelihood.scale == "heteroscedastic":
        raise ModelError(
            f"limit() gives a bdl.GP, whose targets are normal with one scale, got {likelihood}: "
            "use likelihood=bdl.Normal()."
        )
    narrow, wide = (_scales(net, prior, width) for width in WIDTHS)
    if not np.allclose(narrow, wide):
        raise ModelError(
            f"The sums of a layer grow with its width under {prior} and scaling="
            f"{net.scaling!r}, so there is no limit: use scaling='ntk', or "
            "priors.Gaussian(fan_in=True)."
        )
    weights, biases = (tuple(column) for column in np.transpose(wide).tolist())
    kernel = WideNetwork(len(net.hidden), net.activation, weights, biases)
    return GP(kernel, likelihood=likelihood, standardize=standardize)


def _scales(net: MLP, prior: AbstractPrior, width: int) -> list[tuple[float, float]]:
    """Return the scale of a layer's weighted sum of inputs of unit mean square, and of its bias."""
    widened = MLP((width,) * len(net.hidden), net.activation, net.scaling)
    arrays = widened.weight_arrays(NUM_INPUTS, 1)
    scales = [prior.fixed_scale(array) for array in arrays]
    if any(scale is None for scale in scales):
        raise ModelError(
            f"limit() needs normal weights with fixed scales, got {prior}: use priors.Gaussian or "
            "priors.LayerGaussian."
        )
    sums = [
        float(scale) * array.gain * (1.0 if array.is_bias else array.fan_in**0.5)
        for array, scale in zip(arrays, scales, strict=True)
        if scale is not None
    ]
    return list(zip(sums[0::2], sums[1::2], strict=True))
