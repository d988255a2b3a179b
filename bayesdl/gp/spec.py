"""The Gaussian process: a prior over functions, observed with normal noise.

    f ~ GP(0, k),    y = f(x) + e,    e ~ N(0, sigma^2)

The program has f integrated out, so its latent sites are the hyperparameters:

    log p(y) = -y' (K + sigma^2 I)^-1 y / 2 - log |K + sigma^2 I| / 2 - n log(2 pi) / 2

(Rasmussen and Williams 2006, equation 2.30).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bayesdl import kernels
from bayesdl.gp.process import AbstractProcess
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.likelihoods import Normal


@dataclasses.dataclass(frozen=True)
class GP(AbstractProcess):
    """Gaussian process regression.

    Args:
        kernel: a kernel from `bayesdl.kernels`, or a tinygp kernel with fixed hyperparameters; by
            default an RBF kernel with one learned length scale per input.
        likelihood: the likelihood, `Normal()` with one scale, which is sigma.
        standardize: whether inputs and targets are standardised with the training data's mean and
            standard deviation.

    Example:
        >>> GP(kernels.Matern52(lengthscale=1.0), likelihood=Normal(scale=0.1)).kernel.lengthscale
        1.0
    """

    kernel: Any = kernels.RBF(ard=True)
    likelihood: Any = Normal()
    standardize: bool = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("GP", cls(), rows()),)

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        help_text = "a Gaussian process"
        return (CommandLine("gp", cls, help_text, {"kernel": kernels}, only_normal=True),)
