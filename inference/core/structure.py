"""What a problem may offer beyond its program, for engines that can exploit it.

A structure is a small frozen object made by the model. An engine that needs one says so in
`supports`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax.typing import ArrayLike

from inference.core.typing import AnyArray, Program, SiteArrays, Tensor


class AbstractStructure(abc.ABC):  # noqa: B024
    """Base of all structures; engines look for the classes below by `isinstance`."""


class AbstractProduct(abc.ABC):
    """How a network multiplies by the weights of its layers.

    Networks multiply by `PlainProduct`; an engine may put its own product in its place.
    """

    @abc.abstractmethod
    def __call__(self, name: str, h: Tensor, weight: Tensor) -> Any:
        """Return h W', where W is the array of weights that the network sees under this name.

        Args:
            name: the name of the weights.
            h: the inputs of the layer, shape (..., in), rows first.
            weight: W, shape (out, in); an engine's product may ignore it.
        """

    @abc.abstractmethod
    def lookup(self, name: str, number: ArrayLike, weight: Tensor) -> Any:
        """Return a row of W, shape (in,), as an embedding needs it.

        Args:
            name: the name of the weights.
            number: the number of the row.
            weight: W, shape (out, in); an engine's product may ignore it.
        """

    def for_row(self, row: ArrayLike, total: int) -> AbstractProduct:
        """Return the product for one row of data, inside a `vmap` over all `total` rows."""
        return self

    # most products do not look at inputs
    def collect_inputs(self, inputs: dict[str, Any]) -> None:  # noqa: B027
        """Take what `inputs` of the products of all rows hold, out of that `vmap`.

        Args:
            inputs: the inputs of each layer by name, with a leading axis over rows.
        """

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that this product was given, by name, where it keeps them."""
        return {}


class PlainProduct(AbstractProduct):
    """The product with the weights as they are."""

    def __call__(self, name: str, h: Tensor, weight: Tensor) -> Any:
        return h @ weight.T

    def lookup(self, name: str, number: ArrayLike, weight: Tensor) -> Any:
        return weight[number]


@dataclasses.dataclass(frozen=True, eq=False)
class LayeredNetwork(AbstractStructure):
    """A program whose likelihood sees the weights only through a network f(x; w).

    Equal networks compare equal. Programs are arguments of its functions, since they hold numbers.

    Attributes:
        weights: for each latent site of weights or biases the site in which the network sees them:
            the same one, or one that is the latent site times a scale.
        scale_per_site: whether each site of weights is normal given all other sites, with one scale
            for all its entries.
        outputs: the network, a function of the program's sites and of the rows of inputs.
        linearize: a function of the program and of values w0 of all latent sites; it returns the
            program with the network replaced by f(x; w0) + J(x; w0) (w - w0). That program takes
            the keyword argument `shift`, which is added to the outputs.
        pyro_program: a function from the program to the same one in Pyro, which takes torch
            tensors; None where it cannot be written so.
        matrices: the shapes (out, in, ...) of the sites by which the network multiplies.
        lookups: the sites among them of which the network takes rows instead, as embeddings do.
        with_product: a function of the program and of a product; it returns the program with the
            network multiplying by that product. None where the layers of the network are not known.
    """

    weights: dict[str, str]
    scale_per_site: bool
    outputs: Callable[[SiteArrays, Any], jax.Array]
    linearize: Callable[[Program, dict], Program]
    pyro_program: Callable[[Program], Program] | None
    matrices: dict[str, tuple[int, ...]]
    lookups: tuple[str, ...]
    with_product: Callable[[Program, AbstractProduct], Program] | None

    @property
    def _content(self) -> Hashable:
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(tuple(v.items()) if isinstance(v, dict) else v for v in values)

    def __hash__(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._content == other._content


class AbstractLatentFunction(AbstractStructure):
    """Functions f = L z with z ~ N(0, I) latent, and rows that are independent given f.

    Final classes compare by value. Arrays of roots have an axis over functions first, of length one
    where all have the same root.

    Attributes:
        site: the site z, of shape (rows, functions).
    """

    site: str

    @abc.abstractmethod
    def roots(self, values: SiteArrays, X: Any) -> jax.Array:
        """Return L given the other latent sites, shape (functions or 1, rows, rows)."""

    @abc.abstractmethod
    def log_densities(
        self, values: SiteArrays, f: jax.Array, y: Any, weights: ArrayLike | None = None
    ) -> jax.Array:
        """Return log p(y_i | f_i) of each row, times its weight where rows have weights.

        Args:
            values: the other latent sites.
            f: the functions, shape (rows, functions).
            y: the targets, shape (rows,).
            weights: the weights, shape (rows,).
        """


class AbstractGaussianProcessRegression(AbstractStructure):
    """y = f(X) + noise with f ~ GP(0, k); the latent sites are hyperparameters.

    Final classes compare by value.

    Attributes:
        scale: an `inference.exact.scale_mixture.AbstractScale`, what is known of a factor of all
            variances; None where it is one.
    """

    scale: Any = None

    @abc.abstractmethod
    def gaussian_process(self, values: dict, X: Any) -> Any:
        """Return the tinygp process of the noisy targets, given hyperparameters by site."""

    @abc.abstractmethod
    def kernel_at(self, values: dict, num_inputs: int) -> Any:
        """Return the tinygp kernel of f, given hyperparameters by site."""

    @abc.abstractmethod
    def noisy_covariance(self, values: dict, X: Any) -> Any:
        """Return the covariance of the noisy targets, given hyperparameters by site."""

    @abc.abstractmethod
    def noise_variance(self, values: dict) -> Any:
        """Return the variance of the noise, given hyperparameters by site."""

    @abc.abstractmethod
    def describe(self, values: dict) -> str:
        """Return kernel and noise with these hyperparameters, in words that users write."""

    @abc.abstractmethod
    def torch_parts(self) -> tuple:
        """Return what GPyTorch needs: the parts of the same process as torch modules.

        Returns:
            The kernel; functions that give its learned hyperparameters, by site; the standard
            deviation of the noise to start from; whether that is learned.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class StateSpaceTensor(AbstractStructure):
    """y at tuples of indexes, with means made of functions of one index each.

    The functions are Gaussian processes.

    Attributes:
        names: the name of each mode.
        ranks: the number of functions of each mode.
        smoothness: the order p of each mode, whose kernel is Matern of order p + 1/2 plus, where
            asked for, a constant.
        form: "cp" or "tucker".
        positions: the sorted distinct indexes of each mode.
        entry_positions: for each mode the number of each entry's index among its `positions`.
        likelihood: an `AbstractScalarLikelihood` of `inference.messages.pseudo_observations`, or
            None.
        kernels: a function from values of the hyperparameters' sites to an
            `inference.state_space.matern.Kernel` of each mode.
        hyperparameters: the names of these sites.
        scale: the standard deviation sigma where it is fixed; None where it is the site "sigma".
        no_likelihood: why there is no likelihood, as a clause with its cure; else None.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    smoothness: tuple[int, ...]
    form: str
    positions: tuple[AnyArray, ...]
    entry_positions: tuple[AnyArray, ...]
    likelihood: Any
    kernels: Callable[[dict], tuple]
    hyperparameters: tuple[str, ...]
    scale: float | None
    no_likelihood: str | None = None
