"""The arguments of programs inside compiled functions: which are traced, and which are constants.

Arrays are traced where the program lets them be, so that equal shapes share what is compiled. A
program that needs their values in Python (`len(np.unique(g))`, `if np.isnan(x).any()`) gets them as
constants, which compare by content, so that equal calls share what is compiled. Which of the two it
is, is found by trying, and remembered.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from inference.core.typing import AnyArray, PyTree
from inference.process.cached import cached

R = TypeVar("R")

# the number of programs whose form of arguments is remembered
REMEMBERED = 256

TRACED, AS_GIVEN, AS_NUMPY = range(3)
"""Forms of array arguments: traced; constants as they were given; constants as NumPy arrays."""

# what pandas and NumPy do not do alike
REDUCTIONS = ("mean", "std", "var", "sum", "prod", "min", "max", "any", "all")

# errors that say nothing of the form of the arguments
OF_THE_CALLER = (NotImplementedError, MemoryError, jax.errors.JaxRuntimeError)


class AbstractHostArray(np.ndarray):
    """A NumPy array that traced indexes may index, as in `x[plate]`; the rest is NumPy's."""

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, Tracer) for part in parts):
            return jnp.asarray(np.asarray(self))[index]
        return super().__getitem__(index)


class HostArray(AbstractHostArray):
    """An array of NumPy among the arguments of a program."""


class DiffersFromPandasError(TypeError):
    """A method that pandas and NumPy do not do alike, so that nobody knows what is meant."""


def _where_alike(name: str) -> Callable[..., Any]:
    """Return NumPy's method, refused where that of pandas is another number."""

    def method(self: SeriesArray, *args: object, **kwargs: object) -> Any:
        if name in ("std", "var") and "ddof" not in kwargs:
            raise DiffersFromPandasError(
                f"{name}() divides by n - 1 in pandas and by n in NumPy: write {name}(ddof=1)"
            )
        values = np.asarray(self)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise DiffersFromPandasError(
                f"{name}() leaves out missing values in pandas, and not in NumPy: fill them first"
            )
        return getattr(values, name)(*args, **kwargs)

    return method


class SeriesArray(AbstractHostArray):
    """A column of pandas among the arguments of a program: its array, with pandas' methods."""

    mean, std, var, sum, prod, min, max, any, all = map(_where_alike, REDUCTIONS)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.series(), name)

    def series(self) -> Any:
        """Return the column of pandas."""
        import pandas as pd

        return pd.Series(np.asarray(self))


def _by_column(name: str) -> Callable[..., Any]:
    """Return a method that asks for the axis, which pandas and NumPy take to be different ones."""

    def method(self: TableArray, axis: object = None, *args: object, **kwargs: object) -> Any:
        if axis is None:
            raise DiffersFromPandasError(
                f"{name}() of a table is that of each column to pandas, and one number to NumPy: "
                f"write {name}(axis=0), or take np.asarray(table)"
            )
        return getattr(np.asarray(self), name)(axis, *args, **kwargs)

    return method


class TableArray(AbstractHostArray):
    """The matrix of a table of numbers, whose columns programs also read by name.

    Attributes:
        parts: the columns by name, each with a type of its own.
        frame: the table of pandas that it was made of, or None.
    """

    parts: dict[str, AbstractHostArray]
    frame: Any
    mean, std, var, sum, prod, min, max, any, all = map(_by_column, REDUCTIONS)

    def __array_finalize__(self, source: object) -> None:
        self.parts = {}
        self.frame = None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return self.parts[index]
        if isinstance(index, list) and index and all(isinstance(name, str) for name in index):
            return table_array({name: self.parts[name] for name in index})
        return self.view(HostArray)[index]


def fresh(leaf: object) -> Any:
    """Return a view of an array of NumPy, anything else as it is.

    JAX takes an array that it has seen in single precision to be that in double precision too.
    """
    if not isinstance(leaf, AbstractHostArray):
        return leaf
    view = leaf.view()
    if isinstance(leaf, TableArray) and isinstance(view, TableArray):
        view.parts = {name: part.view() for name, part in leaf.parts.items()}
        view.frame = leaf.frame
    return view


def same_array(one: object, other: object) -> bool:
    """Return whether two values are one object, or views of one array."""
    if isinstance(one, AbstractHostArray) and isinstance(other, AbstractHostArray):
        return np.may_share_memory(one, other)
    return one is other


def host_array(array: np.ndarray) -> HostArray:
    """Return a copy of an array as programs take it, which later changes of the array leave."""
    return np.array(array).view(HostArray)


def table_array(columns: Mapping[str, np.ndarray], frame: object = None) -> TableArray:
    """Return the matrix of columns, which programs also read by name.

    Args:
        columns: the columns by name.
        frame: the table of pandas that they are of, or None.
    """
    array = np.column_stack([np.asarray(column) for column in columns.values()]).view(TableArray)
    array.parts = {name: np.array(column).view(SeriesArray) for name, column in columns.items()}
    array.frame = frame
    return array


def is_frame(value: object) -> bool:
    """Return whether a value is a table of pandas, which is not imported to find out."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


@dataclasses.dataclass(frozen=True, eq=False)
class ConstantTable:
    """A table of pandas as a constant of a compiled function; tables of equal content are equal."""

    frame: Any

    @cached
    def content(self) -> Hashable:
        """Names, types and a hash of the values and of the index."""
        from pandas.util import hash_pandas_object

        hash_rows: Any = hash_pandas_object
        hashed = hash_rows(self.frame).to_numpy().tobytes()
        types = tuple(zip(map(str, self.frame.columns), map(repr, self.frame.dtypes), strict=True))
        return types, hashlib.sha256(hashed).digest()

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConstantTable) and self.content == other.content


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An array as a constant of a compiled function; constants of equal content are equal."""

    array: AnyArray

    @cached
    def content(self) -> Hashable:
        """Kind, type, shape and a hash of the values."""
        values = np.asarray(self.array)
        digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()
        parts = getattr(self.array, "parts", {})
        columns = tuple((name, part.dtype.str) for name, part in parts.items())
        return type(self.array).__name__, values.dtype.str, values.shape, digest, columns

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.content == other.content


@dataclasses.dataclass(frozen=True, eq=False)
class Opaque:
    """An argument without a hash as a constant of a compiled function, equal to itself alone."""

    value: Any

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.value is other.value


def split_static(tree: PyTree, form: int = TRACED) -> tuple[list, Hashable]:
    """Split a tree into the arrays that are traced, and everything else in hashable form."""
    leaves, structure = jax.tree.flatten(tree)
    traced = tuple(form == TRACED and _can_be_traced(leaf) for leaf in leaves)
    rest = tuple(_hashable(leaf, form) for leaf, out in zip(leaves, traced, strict=True) if not out)
    arrays = [np.asarray(x) if isinstance(x, np.ndarray) else x for x in leaves]
    # 1 and 1.0 are equal, and not the same to a program
    types = tuple(type(constant) for constant in rest)
    return [x for x, out in zip(arrays, traced, strict=True) if out], (
        structure,
        traced,
        rest,
        types,
    )


def join_static(arrays: list, static: Any) -> PyTree:
    """Put together what `split_static` split."""
    structure, traced, rest, _ = static
    given, others = iter(arrays), iter(rest)
    return jax.tree.unflatten(
        structure, [next(given) if out else _plain(next(others)) for out in traced]
    )


def call(function: Callable[[list, Any], R], tree: PyTree, owner: Hashable) -> R:
    """Call a compiled function with arguments in the first form that the program takes.

    Args:
        function: a function of (traced arrays, static rest), as `split_static` gives them.
        tree: the arguments.
        owner: the program, or what compares as it does, for which the form is remembered.

    Raises:
        Exception: that of the program with its arguments as they were given, if it takes none.
    """
    remembered, errors = _form_of(owner), {}
    for form in range(remembered.form, AS_NUMPY + 1):
        arrays, static = split_static(tree, form)
        try:
            found = function(arrays, static)
        except OF_THE_CALLER:
            raise
        except Exception as error:
            errors[form] = error
        else:
            remembered.form = form
            return found
    raise errors.get(AS_GIVEN, errors[AS_NUMPY])


@dataclasses.dataclass
class _Form:
    """The form of arguments that a program took last."""

    form: int = TRACED


@functools.lru_cache(REMEMBERED)
def _form_of(owner: Hashable) -> _Form:
    return _Form()


def _can_be_traced(leaf: object) -> bool:
    """Whether a leaf is an array of numbers; dates and text are constants."""
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in "iufbcV"
    return isinstance(leaf, jax.Array)


def _hashable(leaf: object, form: int) -> Hashable:
    """Return a leaf as a constant."""
    if isinstance(leaf, jax.Array) and form == AS_NUMPY and not _is_key(leaf):
        leaf = host_array(np.asarray(leaf))
    if isinstance(leaf, np.ndarray) or (isinstance(leaf, jax.Array) and not _is_key(leaf)):
        return Constant(leaf)
    constant: Any = ConstantTable(leaf) if is_frame(leaf) else leaf
    try:
        hash(constant)
    except TypeError:  # cells of a table may have no hash either
        return Opaque(leaf)
    return constant


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: object) -> Any:
    if isinstance(leaf, Constant):
        return leaf.array
    if isinstance(leaf, ConstantTable):
        # a copy of what pandas knows of it, so that a program's new columns stay its own
        return leaf.frame.copy(deep=False)
    return leaf.value if isinstance(leaf, Opaque) else leaf
