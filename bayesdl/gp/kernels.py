"""Kernels k(x, x') of Gaussian processes: beliefs about functions, as plain data.

A hyperparameter is a number (fixed), a NumPyro distribution (its prior), or None (learned under
the default prior: LogNormal(log sqrt(2 p), 1) for length scales with p inputs, and
LogNormal(0.1, 1) otherwise; Tran et al. 2022, arXiv:2011.12829). Units are those of standardised
data. Kernels add and multiply. tinygp (JAX) computes them.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from bayesdl.gp.hyperparameters import (
    Draw,
    as_array,
    check_hyperparameter,
    check_length,
    lengthscale_prior,
    scale_prior,
)
from inference.settings import AbstractSettings

if TYPE_CHECKING:
    from tinygp.kernels import Kernel
else:
    Kernel = object


class AbstractKernel(AbstractSettings, abc.ABC):
    """A positive definite function of two inputs."""

    @abc.abstractmethod
    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        """Return the tinygp kernel.

        Args:
            draw: gives hyperparameters, called as draw(site, setting, default prior, shape).
            prefix: the first part of the names of sites.
            num_inputs: the number of inputs, the columns of x.
        """

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        """Return the same kernel in another library's terms, with sites named as by `build`.

        Raises:
            UnsupportedError: for a kernel that is code, and so has no other terms.
        """
        return translator.refuse(self)

    @property
    def ignores_zero_columns(self) -> bool:
        """Whether columns of zeros leave the formula unchanged; not so far as is known for code."""
        return True

    def __add__(self, other: AbstractKernel) -> Sum:
        return Sum((self, as_kernel(other)))

    def __mul__(self, other: AbstractKernel) -> Product:
        return Product((self, as_kernel(other)))


class AbstractTranslator(abc.ABC):
    """The terms in which another library writes the kernels of this module."""

    @abc.abstractmethod
    def stationary(self, kernel: AbstractStationary, prefix: str) -> Any:
        """Return a stationary kernel, an RBF or Matern one."""

    @abc.abstractmethod
    def periodic(self, kernel: Periodic, prefix: str) -> Any:
        """Return a periodic kernel."""

    @abc.abstractmethod
    def linear(self, kernel: Linear, prefix: str) -> Any:
        """Return a linear kernel."""

    @abc.abstractmethod
    def constant(self, kernel: Constant, prefix: str) -> Any:
        """Return a constant kernel."""

    @abc.abstractmethod
    def add(self, kernel: Sum, prefix: str) -> Any:
        """Return a sum of kernels."""

    @abc.abstractmethod
    def multiply(self, kernel: Product, prefix: str) -> Any:
        """Return a product of kernels."""

    @abc.abstractmethod
    def refuse(self, kernel: AbstractKernel) -> Any:
        """Raise an `UnsupportedError` with the cure."""


@dataclasses.dataclass(frozen=True)
class AbstractStationary(AbstractKernel):
    """variance * g(r), r^2 = sum_d (x_d - x'_d)^2 / lengthscale_d^2.

    Args:
        lengthscale: the length scale: one number, one per input (a tuple), a prior, or None.
        variance: the variance of the function: a number, a prior, or None.
        ard: whether there is one learned length scale per input.

    Attributes:
        nu: the order of the kernel among those of Matern, of which an RBF is the limit.
    """

    nu: ClassVar[float]
    lengthscale: Any = None
    variance: Any = None
    ard: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.lengthscale, list):
            object.__setattr__(self, "lengthscale", tuple(self.lengthscale))
        for name in ("lengthscale", "variance"):
            check_hyperparameter(self, name)

    @abc.abstractmethod
    def profile(self) -> Callable:
        """Return the function g, of r^2."""

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.stationary(self, prefix)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp.stationary import Stationary

        return Stationary(self.profile(), *self.hyperparameters(draw, prefix, num_inputs))

    def hyperparameters(
        self, draw: Draw, prefix: str, num_inputs: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the length scale, shape () or (num_inputs,), and the variance, as arrays."""
        check_length(self, self.lengthscale, num_inputs)
        shape = (num_inputs,) if self.ard else ()
        prior = lengthscale_prior(num_inputs)
        lengthscale = draw(f"{prefix}lengthscale", self.lengthscale, prior, shape)
        variance = draw(f"{prefix}variance", self.variance, scale_prior(), ())
        return as_array(lengthscale), as_array(variance)


@dataclasses.dataclass(frozen=True)
class RBF(AbstractStationary):
    """variance * exp(-r^2 / 2): infinitely smooth functions.

    Example:
        >>> RBF(lengthscale=0.5) + Linear()
        Sum(parts=(RBF(lengthscale=0.5, variance=None, ard=False), Linear(variance=None)))
    """

    nu: ClassVar[float] = math.inf

    def profile(self) -> Callable:
        from bayesdl.gp.stationary import rbf

        return rbf


@dataclasses.dataclass(frozen=True)
class Matern12(AbstractStationary):
    """variance * exp(-r): continuous, nowhere smooth functions.

    Example:
        >>> Matern12(lengthscale=1.0).lengthscale
        1.0
    """

    nu: ClassVar[float] = 0.5

    def profile(self) -> Callable:
        from bayesdl.gp.stationary import matern12

        return matern12


@dataclasses.dataclass(frozen=True)
class Matern32(AbstractStationary):
    """variance * (1 + sqrt(3) r) exp(-sqrt(3) r): once differentiable functions.

    Example:
        >>> Matern32(ard=True).ard
        True
    """

    nu: ClassVar[float] = 1.5

    def profile(self) -> Callable:
        from bayesdl.gp.stationary import matern32

        return matern32


@dataclasses.dataclass(frozen=True)
class Matern52(AbstractStationary):
    """variance * (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r): twice differentiable functions.

    Example:
        >>> Matern52(variance=2.0).variance
        2.0
    """

    nu: ClassVar[float] = 2.5

    def profile(self) -> Callable:
        from bayesdl.gp.stationary import matern52

        return matern52


@dataclasses.dataclass(frozen=True)
class Periodic(AbstractKernel):
    """variance * exp(-2 sum_d sin^2(pi (x_d - x'_d) / period) / lengthscale^2).

    Args:
        period: the period: a number, a prior, or None.
        lengthscale: the length scale within a period: a number, a prior, or None.
        variance: the variance of the function: a number, a prior, or None.

    Example:
        >>> Periodic(period=12.0).period
        12.0
    """

    period: Any = None
    lengthscale: Any = None
    variance: Any = None

    def __post_init__(self) -> None:
        for name in ("period", "lengthscale", "variance"):
            check_hyperparameter(self, name)

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.periodic(self, prefix)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from tinygp.kernels import Custom

        period = as_array(draw(f"{prefix}period", self.period, scale_prior(), ()))
        prior = lengthscale_prior(1)
        lengthscale = as_array(draw(f"{prefix}lengthscale", self.lengthscale, prior, ()))
        variance = as_array(draw(f"{prefix}variance", self.variance, scale_prior(), ()))

        # tinygp's kernel takes the sine of the summed distance, which differs for several inputs
        def unit(x: jax.Array, z: jax.Array) -> jax.Array:
            return jnp.exp(-2.0 * jnp.sum(jnp.sin(jnp.pi * (x - z) / period) ** 2) / lengthscale**2)

        return variance * Custom(unit)


@dataclasses.dataclass(frozen=True)
class Linear(AbstractKernel):
    """variance * x . x': linear functions through the origin.

    Args:
        variance: the variance of each slope: a number, a prior, or None.

    Example:
        >>> Linear(variance=1.0).variance
        1.0
    """

    variance: Any = None

    def __post_init__(self) -> None:
        check_hyperparameter(self, "variance")

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.linear(self, prefix)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from tinygp.kernels import DotProduct

        return as_array(draw(f"{prefix}variance", self.variance, scale_prior(), ())) * DotProduct()


@dataclasses.dataclass(frozen=True)
class Constant(AbstractKernel):
    """A constant variance: functions that are constant.

    Args:
        variance: the variance of the constant: a number, a prior, or None.

    Example:
        >>> Constant(variance=1.0).variance
        1.0
    """

    variance: Any = None

    def __post_init__(self) -> None:
        check_hyperparameter(self, "variance")

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.constant(self, prefix)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from tinygp.kernels import Constant as Unit

        return Unit(as_array(draw(f"{prefix}variance", self.variance, scale_prior(), ())))


@dataclasses.dataclass(frozen=True)
class AbstractCombination(AbstractKernel):
    """Several kernels, its `parts`, put together into one."""

    parts: tuple[AbstractKernel, ...]

    @abc.abstractmethod
    def combine(self, one: Kernel, other: Kernel) -> Kernel:
        """Return two kernels of tinygp put together."""

    @property
    def ignores_zero_columns(self) -> bool:
        return all(part.ignores_zero_columns for part in self.parts)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        built = [part.build(draw, f"{prefix}{i}.", num_inputs) for i, part in enumerate(self.parts)]
        return functools.reduce(self.combine, built)


@dataclasses.dataclass(frozen=True)
class Sum(AbstractCombination):
    """k1 + k2 + ...; written with `+`."""

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.add(self, prefix)

    def combine(self, one: Kernel, other: Kernel) -> Kernel:
        return one + other


@dataclasses.dataclass(frozen=True)
class Product(AbstractCombination):
    """k1 * k2 * ...; written with `*`."""

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.multiply(self, prefix)

    def combine(self, one: Kernel, other: Kernel) -> Kernel:
        return one * other


@dataclasses.dataclass(frozen=True, eq=False)
class TinyGP(AbstractKernel):
    """A kernel made with tinygp, its hyperparameters fixed as given.

    Attributes:
        kernel: the kernel of tinygp.
    """

    kernel: Any = dataclasses.field(hash=False)  # holds arrays

    @property
    def ignores_zero_columns(self) -> bool:
        # its formula is code
        return False

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        return self.kernel


def as_kernel(kernel: object) -> AbstractKernel:
    """Return a kernel of this module as it is, and a tinygp kernel wrapped.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(kernel, AbstractKernel):
        return kernel
    import tinygp

    if isinstance(kernel, tinygp.kernels.Kernel):
        return TinyGP(kernel)
    hint = (
        " As a target of bdl.match_prior give it by itself, to=kernel."
        if "gpytorch" in type(kernel).__module__
        else ""
    )
    raise TypeError(
        "Expected a kernel from bayesdl.kernels or tinygp.kernels, got "
        f"{type(kernel).__name__}.{hint}"
    )
