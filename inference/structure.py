"""What a problem may offer beyond its program, for engines that can exploit it.

A structure is a small frozen object made by the model. An engine that needs one states so in `supports`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any


class AbstractStructure(abc.ABC):  # noqa: B024
    """Base of all structures; engines look for the classes below by `isinstance`."""


@dataclasses.dataclass(frozen=True, eq=False)
class LayeredNetwork(AbstractStructure):
    """A program whose likelihood sees the weights only through a network f(x; w).

    Attributes:
        weights: for each latent site of weights or biases the site in which the network sees them: the same one, or one
            that is the latent site times a scale.
        scale_per_site: whether each site of weights is normal given all other sites, with one scale for all its entries.
        linearized: given values w0 of all latent sites, the same program with the network replaced by
            f(x; w0) + J(x; w0) (w - w0).
        pyro_program: makes the same program in Pyro, taking torch tensors; None where it cannot be written so.
    """

    weights: dict[str, str]
    scale_per_site: bool
    linearized: Callable[[dict], Callable]
    pyro_program: Callable[[], Callable] | None


class AbstractGaussianProcessRegression(AbstractStructure):
    """y = f(X) + noise with f ~ GP(0, k); the latent sites are hyperparameters. Final classes compare by value."""

    @abc.abstractmethod
    def gaussian_process(self, values: dict, X: Any) -> Any:
        """The tinygp process of the noisy targets, given hyperparameters."""

    @abc.abstractmethod
    def noise_variance(self, values: dict) -> Any:
        """The variance of the noise, given hyperparameters."""

    @abc.abstractmethod
    def torch_parts(self) -> tuple:
        """GPyTorch kernel, functions giving its learned hyperparameters by site, sigma to start from, whether it is learned."""
