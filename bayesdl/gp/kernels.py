"""Kernels k(x, x') of Gaussian processes: beliefs about functions, as plain data.

A hyperparameter is a number (fixed), a NumPyro distribution (its prior), or None (learned under
the default prior: LogNormal(log sqrt(2 p), 1) for length scales with p inputs, LogNormal(0.1, 1)
otherwise; Tran et al. 2022, arXiv:2011.12829), in units of standardised data. tinygp computes them.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
import numbers
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from bayesdl.gp import printing
from bayesdl.gp.hyperparameters import (
    Draw,
    as_array,
    check_hyperparameter,
    check_length,
    lengthscale_prior,
    scale_prior,
)
from inference.settings import AbstractSettings, is_positive

if TYPE_CHECKING:
    from tinygp.kernels import Kernel
else:
    Kernel = object


class AbstractKernel(AbstractSettings, abc.ABC):
    """A positive definite function of two inputs; numbers in sums and products are constants."""

    binding: ClassVar[int] = printing.CALL
    __array_ufunc__ = None  # an array beside a kernel is refused, not taken number by number

    def __repr__(self) -> str:
        return printing.write_call(self)

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

    def __add__(self, other: AbstractKernel | float) -> Sum:
        return Sum((self, _operand(other)))

    def __radd__(self, other: AbstractKernel | float) -> AbstractKernel:  # `sum` begins with 0
        return self if other == 0 else Sum((_operand(other), self))

    def __mul__(self, other: AbstractKernel | float) -> Product:
        return Product((self, _operand(other)))

    def __rmul__(self, other: AbstractKernel | float) -> Product:
        return Product((_operand(other), self))


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


@dataclasses.dataclass(frozen=True, repr=False)
class AbstractStationary(AbstractKernel):
    """variance * g(r), r^2 = sum_d (x_d - x'_d)^2 / lengthscale_d^2.

    Args:
        lengthscale: the length scale: one number, one per input (a tuple), a prior, or None.
        variance: the variance of the function: a number, a prior, or None.
        ard: whether there is one learned length scale per input.

    Attributes:
        nu: the order of the kernel among those of Matern, of which an RBF is the limit.
        form: the name of the function g of r^2 in `matrices.py`.
    """

    nu: ClassVar[float]
    form: ClassVar[str]
    lengthscale: Any = None
    variance: Any = None
    ard: bool = False

    def __post_init__(self) -> None:
        for name in ("lengthscale", "variance"):
            check_hyperparameter(self, name)

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.stationary(self, prefix)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp import matrices

        profile = getattr(matrices, self.form)
        return matrices.Stationary(profile, *self.hyperparameters(draw, prefix, num_inputs))

    def hyperparameters(
        self, draw: Draw, prefix: str, num_inputs: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the length scale, shape () or (num_inputs,), and the variance, as arrays."""
        check_length(self, self.lengthscale, num_inputs)
        shape, prior = (num_inputs,) if self.ard else (), lengthscale_prior(num_inputs)
        lengthscale = draw(f"{prefix}lengthscale", self.lengthscale, prior, shape)
        variance = draw(f"{prefix}variance", self.variance, scale_prior(), ())
        return as_array(lengthscale), as_array(variance)


@dataclasses.dataclass(frozen=True, repr=False)
class RBF(AbstractStationary):
    """variance * exp(-r^2 / 2): infinitely smooth functions.

    Example:
        >>> RBF(lengthscale=0.5) + Linear()
        RBF(lengthscale=0.5) + Linear()
        >>> (RBF() + 0.5) * Periodic(period=12.0)
        (RBF() + Constant(variance=0.5)) * Periodic(period=12.0)
    """

    nu: ClassVar[float] = math.inf
    form: ClassVar[str] = "rbf"


@dataclasses.dataclass(frozen=True, repr=False)
class Matern12(AbstractStationary):
    """variance * exp(-r): continuous, nowhere smooth functions.

    Example:
        >>> Matern12(lengthscale=1.0).lengthscale
        1.0
    """

    nu: ClassVar[float] = 0.5
    form: ClassVar[str] = "matern12"


@dataclasses.dataclass(frozen=True, repr=False)
class Matern32(AbstractStationary):
    """variance * (1 + sqrt(3) r) exp(-sqrt(3) r): once differentiable functions.

    Example:
        >>> Matern32(ard=True).ard
        True
    """

    nu: ClassVar[float] = 1.5
    form: ClassVar[str] = "matern32"


@dataclasses.dataclass(frozen=True, repr=False)
class Matern52(AbstractStationary):
    """variance * (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r): twice differentiable functions.

    Example:
        >>> Matern52(variance=2.0).variance
        2.0
    """

    nu: ClassVar[float] = 2.5
    form: ClassVar[str] = "matern52"


@dataclasses.dataclass(frozen=True, repr=False)
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


@dataclasses.dataclass(frozen=True, repr=False)
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


@dataclasses.dataclass(frozen=True, repr=False)
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


@dataclasses.dataclass(frozen=True, repr=False)
class AbstractCombination(AbstractKernel):
    """Several kernels, its `parts`, put together into one by an operator."""

    sign: ClassVar[str]
    combine: ClassVar[Callable]
    parts: tuple[AbstractKernel, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(map(as_kernel, self.parts)))
        if not self.parts:
            raise ValueError(f"{type(self).__name__}(parts=()): expected at least one kernel.")

    def __repr__(self) -> str:
        return printing.write_operator(self.sign, self.binding, self.parts)

    @property
    def ignores_zero_columns(self) -> bool:
        return all(part.ignores_zero_columns for part in self.parts)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp.matrices import Combined

        built = [part.build(draw, f"{prefix}{i}.", num_inputs) for i, part in enumerate(self.parts)]
        return functools.reduce(lambda one, other: Combined(one, other, type(self).combine), built)


@dataclasses.dataclass(frozen=True, repr=False)
class Sum(AbstractCombination):
    """k1 + k2 + ...; written with `+`."""

    sign, binding, combine = "+", printing.SUM, operator.add

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.add(self, prefix)


@dataclasses.dataclass(frozen=True, repr=False)
class Product(AbstractCombination):
    """k1 * k2 * ...; written with `*`."""

    sign, binding, combine = "*", printing.PRODUCT, operator.mul

    def translate(self, translator: AbstractTranslator, prefix: str) -> Any:
        return translator.multiply(self, prefix)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TinyGP(AbstractKernel):
    """A kernel made with tinygp, its hyperparameters fixed as given.

    Attributes:
        kernel: the kernel of tinygp.
    """

    kernel: Any = dataclasses.field(hash=False)  # holds arrays

    @property
    def ignores_zero_columns(self) -> bool:
        return False

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        return self.kernel


def _operand(value: object) -> AbstractKernel:
    """Return a kernel in a sum or product; a positive number is a constant kernel."""
    if not isinstance(value, numbers.Real):
        return as_kernel(value)
    if not is_positive(float(value)):
        raise ValueError(f"{value!r} beside a kernel: expected a positive number or a kernel.")
    return Constant(float(value))


def as_kernel(kernel: object) -> AbstractKernel:
    """Return a kernel of this module as it is, and a tinygp kernel wrapped.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(kernel, AbstractKernel):
        return kernel
    import tinygp

    if isinstance(kernel, tinygp.kernels.Kernel):
        if any(isinstance(leaf, AbstractKernel) for leaf in jax.tree.leaves(kernel)):
            raise TypeError("A tinygp kernel stands before a kernel of bayesdl: put it behind.")
        return TinyGP(kernel)
    gpytorch = "gpytorch" in type(kernel).__module__
    hint = " As a target of bdl.match_prior give it by itself, to=kernel." if gpytorch else ""
    raise TypeError(
        "Expected a kernel from bayesdl.kernels or tinygp.kernels, got "
        f"{type(kernel).__name__}.{hint}"
    )
