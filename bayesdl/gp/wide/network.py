"""The kernel of an infinitely wide network with independent normal weights.

    K_0(x, x') = sum_d w_0d^2 x_d x'_d / D + b_0^2                      (D inputs)
    K_l(x, x') = w_l^2 E[phi(u) phi(v)] + b_l^2,    l = 1, ..., hidden,

where (u, v) is normal with the variances K_{l-1}(x, x), K_{l-1}(x', x') and the covariance
K_{l-1}(x, x') (Neal 1996; Lee et al. 2018, arXiv:1711.00165). Its functions are those of the
network under its prior. The tangent kernel (Jacot et al. 2018, arXiv:1806.07572),

    Theta_0 = K_0,    Theta_l = K_l + w_l^2 E[phi'(u) phi'(v)] Theta_{l-1},

says how gradient descent moves such a network.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpyro.distributions as dist

from bayesdl.data.validation import ModelError
from bayesdl.gp.hyperparameters import Draw, as_array, check_hyperparameter, scale_prior
from bayesdl.gp.kernels import AbstractKernel
from bayesdl.gp.wide.activations import AbstractActivation, find_activation
from bayesdl.model.registry import register_spec
from inference.settings import is_positive

if TYPE_CHECKING:
    from tinygp.kernels import Kernel
else:
    Kernel = object

# deeper kernels are nearly constant, or nearly white noise
DEEP = 10


@register_spec("kernels.WideNetwork")
@dataclasses.dataclass(frozen=True, repr=False)
class WideNetwork(AbstractKernel):
    """The kernel of an infinitely wide network.

    Args:
        hidden: the number of hidden layers.
        activation: "relu", "leaky_relu", "erf", "gelu", "sine", "cosine", "tanh", "silu", or a
            smooth function of arrays, whose kernel is a series: right to 3e-5 of the variance where
            pre-activations have standard deviations up to 3, and to 3 % beyond.
        weight: the standard deviations of the weights, w. A number is that of all layers, a tuple
            has one per layer, the output layer included. A prior, or None for LogNormal(0.1, 1),
            is that of the first and of the last layer; those between keep variances as they are,
            w^2 E[phi(z)^2] = 1 for z ~ N(0, 1), as only products of scales are identified.
        bias: the standard deviations of the biases, b: a number, a tuple with one per layer, or a
            prior (None: LogNormal(0.1, 1)) of one scale for all. Zero leaves biases out.
        ard: whether each input has a learned weight w_0d of its own.
        tangent: whether this is the tangent kernel. As the covariance of a Gaussian process it is
            another model than a network trained by gradient descent.

    Example:
        >>> WideNetwork(hidden=3, activation="relu", weight=2**0.5, bias=0.1).hidden
        3
    """

    hidden: int = 2
    activation: Any = "erf"
    weight: Any = None
    bias: Any = None
    ard: bool = False
    tangent: bool = False

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ModelError(
                f"WideNetwork(hidden={self.hidden}): expected at least 1 hidden layer; "
                "kernels.Linear() is the network without one."
            )
        if self.hidden > DEEP:
            warnings.warn(
                f"WideNetwork(hidden={self.hidden}): kernels of more than {DEEP} layers are nearly "
                "constant or nearly white noise; 1 to 3 layers are usual.",
                stacklevel=4,
            )
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            self._check_scale(name, least_allowed=name == "bias")
        if self.ard and _is_fixed(self.weight):
            raise ModelError(
                f"WideNetwork(ard=True, weight={self.weight!r}): ard learns a weight for each "
                "input: give weight=None or a prior, or leave ard out."
            )
        _ = self.phi

    def _check_scale(self, name: str, least_allowed: bool) -> None:
        value = getattr(self, name)
        if isinstance(value, tuple) and len(value) != self.hidden + 1:
            raise ModelError(
                f"WideNetwork({name}={value!r}): expected {self.hidden + 1} numbers, one for each "
                f"of {self.hidden} hidden layers and one for the output layer, got {len(value)}."
            )
        if name == "weight" or not _is_fixed(value):
            check_hyperparameter(self, name)
            return
        entries = value if isinstance(value, tuple) else (value,)
        if not all(is_positive(entry) or entry == 0 for entry in entries):
            raise ValueError(
                f"WideNetwork(bias={value!r}): expected a number of at least 0 (a tuple for one "
                "per layer), a NumPyro distribution, or None."
            )

    @property
    def phi(self) -> AbstractActivation:
        """Return the activation with its expected products."""
        return find_activation(self.activation)

    @property
    def ignores_zero_columns(self) -> bool:
        # sums over inputs are divided by their number
        return False

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp.wide.kernel import WideKernel

        inner = self.phi.unit_scale()
        weights = _per_layer(self.weight, self.hidden)
        biases = _per_layer(self.bias, self.hidden)
        first = draw(
            f"{prefix}weight_in", weights[0], scale_prior(), (num_inputs,) if self.ard else ()
        )
        last = draw(f"{prefix}weight_out", weights[-1], scale_prior(), ())
        if not _is_fixed(self.bias):
            biases = (draw(f"{prefix}bias", self.bias, scale_prior(), ()),) * (self.hidden + 1)
        between = tuple(w if _is_fixed(w) else inner for w in weights[1:-1])
        return WideKernel(
            self.phi,
            self.tangent,
            as_array(first) / math.sqrt(num_inputs),
            tuple(map(as_array, (*between, last))),
            tuple(map(as_array, biases)),
        )


def _is_fixed(value: Any) -> bool:
    """Return whether a scale is given as numbers."""
    return value is not None and not isinstance(value, dist.Distribution)


def _per_layer(value: Any, hidden: int) -> tuple:
    """Return one setting for each layer."""
    return value if isinstance(value, tuple) else (value,) * (hidden + 1)
