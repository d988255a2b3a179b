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


class AbstractProduct(abc.ABC):
    """How a network multiplies by the weights of its layers; an engine may put its own in the place of `PlainProduct`."""

    @abc.abstractmethod
    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        """H W', with W the array of weights that the network sees under this name.

        Args:
            name: of the weights.
            h: inputs of the layer, shape (..., in), rows first.
            weight: W, shape (out, in); an engine's product may ignore it.
        """

    @abc.abstractmethod
    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        """A row of W, shape (in,), as an embedding needs it."""

    def for_row(self, row: Any, total: int) -> AbstractProduct:
        """The product for one row of data, inside a `vmap` over all `total` of them."""
        return self

    def collect_inputs(self, inputs: dict[str, Any]) -> None:  # noqa: B027 (most products do not look at inputs)
        """Takes what `inputs` of the products of all rows gathered, out of that `vmap`: a leading axis over rows."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What this product was given, by name, where it keeps that."""
        return {}


class PlainProduct(AbstractProduct):
    """The product itself."""

    def __call__(self, name: str, h: Any, weight: Any) -> Any:
        return h @ weight.T

    def lookup(self, name: str, number: Any, weight: Any) -> Any:
        return weight[number]


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
        matrices: of the sites that the network sees, those by which it multiplies, with their shapes (out, in, ...).
        lookups: those among them of which the network takes rows instead, as embeddings do.
        multiplied: given a product, the same program with the network multiplying by it; None where its layers are not known.
    """

    weights: dict[str, str]
    scale_per_site: bool
    linearize: Callable[[dict], Callable]
    pyro_program: Callable[[], Callable] | None
    matrices: dict[str, tuple[int, ...]]
    lookups: tuple[str, ...]
    with_product: Callable[[AbstractProduct], Callable] | None


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


@dataclasses.dataclass(frozen=True, eq=False)
class StateSpaceTensor(AbstractStructure):
    """y at tuples of indexes, with means made of functions of one index each, which are Gaussian processes.

    Attributes:
        names: of the modes.
        ranks: functions of each mode.
        smoothness: p of each mode, whose kernel is Matern of order p + 1/2 plus, where asked for, a constant.
        form: "cp" or "tucker".
        positions: the sorted distinct indexes of each mode.
        places: of each mode, the position of each entry.
        likelihood: an `inference.messages.likelihood_sites.AbstractScalarLikelihood`, or a sentence saying why there is none.
        kernels: from values of the hyperparameters' sites, a `inference.state_space.matern.Kernel` of each mode.
        hyperparameters: names of these sites.
        scale: sigma where it is fixed, otherwise None: the site "sigma".
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    smoothness: tuple[int, ...]
    form: str
    positions: tuple[Any, ...]
    entry_positions: tuple[Any, ...]
    likelihood: Any
    kernels: Callable[[dict], tuple]
    hyperparameters: tuple[str, ...]
    scale: float | None
