"""Names for the types that engines and models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree

Key: TypeAlias = jax.Array
"""A random key, as `jax.random.key` makes it."""

AnyArray: TypeAlias = jax.Array | np.ndarray
"""An array of JAX, traced or not, or of NumPy."""

Params: TypeAlias = PyTree
"""Parameters that are optimised or stored: arrays in nested tuples, lists and dictionaries."""

SiteArrays: TypeAlias = dict[str, jax.Array]
"""Values of a program's sites by name, as compiled functions see them."""

StoredArrays: TypeAlias = dict[str, np.ndarray]
"""Arrays by name in host memory, as results and files hold them."""

Info: TypeAlias = dict[str, Any]
"""Facts about a run as plain data, ready for JSON."""

Program: TypeAlias = Callable[..., Any]
"""A NumPyro program: a function that calls `numpyro.sample`."""

Arguments: TypeAlias = tuple[Any, ...]
"""Positional arguments of a program."""

KeywordArguments: TypeAlias = Mapping[str, Any]
"""Keyword arguments of a program."""

if TYPE_CHECKING:
    import optax

    Integer: TypeAlias = int
    """A whole number of Python or NumPy; type checkers know one kind."""

    Optimizer: TypeAlias = optax.GradientTransformation
    """An optimiser of optax, which is imported where it is used only."""

    class Tensor(Protocol):
        """An array of JAX, NumPy or torch, in code that is written once for all of them."""

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def T(self) -> Any: ...

        def reshape(self, *shape: Any) -> Any: ...

        def __getitem__(self, key: Any, /) -> Any: ...

        def __matmul__(self, other: Any, /) -> Any: ...

        def __add__(self, other: Any, /) -> Any: ...

        def __mul__(self, other: Any, /) -> Any: ...

        def __truediv__(self, other: Any, /) -> Any: ...

    # Words that settings take. They are `str` at run time, where each engine refuses other words
    # itself and lists its own.

    ChainStart: TypeAlias = Literal["uniform", "prior", "mode", "pathfinder"]
    """Where a chain starts."""

    ChainMethod: TypeAlias = Literal["auto", "sequential", "vectorized", "parallel"]
    """How chains share the devices."""

    HyperparameterMethod: TypeAlias = Literal["ml", "map", "sample"]
    """What is done with the hyperparameters of a Gaussian process."""

    GPMethod: TypeAlias = Literal["exact", "svgp"]
    """How GPyTorch computes a Gaussian process."""

    Smoother: TypeAlias = Literal["auto", "sequential", "parallel"]
    """How the states along a mode of a tensor are computed."""

    Allocation: TypeAlias = Literal["uniform", "erk", "global"]
    """How layers share the budget of a sparse network."""

    Growth: TypeAlias = Literal["gradient", "random"]
    """How weights that come in are chosen."""

    RemovalRule: TypeAlias = Literal[
        "snr", "evidence", "magnitude", "mean_abs", "random", "support"
    ]
    """How weights that leave are chosen."""

    SparseEstimator: TypeAlias = Literal["local", "flipout", "weights"]
    """Where the noise of sparse weights is drawn."""

    Biases: TypeAlias = Literal["point", "normal"]
    """How the biases of a sparse network are fitted."""

    SparseKernel: TypeAlias = Literal["auto", "blocks", "fan_in", "neurons", "transient"]
    """How sparse weights are multiplied."""

    NetworkKind: TypeAlias = Literal["rows", "cells", "stacked"]
    """What the tokens of a prior-data fitted network are."""

    Precision: TypeAlias = Literal["float32", "bfloat16"]
    """The arithmetic in which a prior-data fitted network is trained."""

    Oracle: TypeAlias = Literal["auto", "enumeration", "finite differences"]
    """What the gradient of an objective is compared with."""
else:
    Integer = int | np.integer
    Optimizer = Tensor = object
    ChainStart = ChainMethod = HyperparameterMethod = GPMethod = Smoother = str
    Allocation = Growth = RemovalRule = SparseEstimator = Biases = SparseKernel = str
    NetworkKind = Precision = Oracle = str


class NewEntries(NamedTuple):
    """The latent sites that have entries without draws at new data, which are drawn there.

    Attributes:
        further: the sites that have more entries than their draws.
        anew: the sites none of whose entries have draws, as they belong to other rows.
    """

    further: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()


__all__ = [
    "Allocation",
    "AnyArray",
    "Arguments",
    "Biases",
    "ChainMethod",
    "ChainStart",
    "GPMethod",
    "Growth",
    "HyperparameterMethod",
    "Info",
    "Key",
    "KeywordArguments",
    "NetworkKind",
    "NewEntries",
    "Optimizer",
    "Oracle",
    "Params",
    "Precision",
    "Program",
    "PyTree",
    "RemovalRule",
    "SiteArrays",
    "Smoother",
    "SparseEstimator",
    "SparseKernel",
    "StoredArrays",
    "Tensor",
]
