"""Arguments of a NumPyro program: they reach it as the user gave them, copied.

NumPy arrays stay NumPy arrays, JAX arrays JAX arrays, and numbers of Python stay numbers. What
stands for an array becomes one of NumPy: lists of numbers, tuples of numbers that are not all
whole, columns of pandas. `scipy.sparse` matrices become `jax.experimental.sparse.BCOO`. Tuples,
lists, dictionaries and other pytrees are searched for these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from bayesdl.data.precision import refuse_lost_digits
from bayesdl.data.validation import DataError, check_sparse, is_frame, is_number, rectangular
from bayesdl.typing import Frame, Values
from inference.arguments import (
    AbstractHostArray,
    SeriesArray,
    TableArray,
    host_array,
    table_array,
)

DATES = "mM"


@jax.tree_util.register_pytree_node_class
class Columns(dict):
    """The columns of a table by name, those of numbers and dates; its length is that of a column.

    Args:
        columns: the columns by name.
        others: the names of the columns that were left out, as they hold text.
        frame: the table of pandas that they are of, or None.
    """

    def __init__(
        self, columns: Mapping[str, Any], others: tuple[str, ...] = (), frame: object = None
    ) -> None:
        super().__init__(columns)
        self.others = others
        self.frame: Any = frame

    def __len__(self) -> int:
        return len(next(iter(self.values()), ()))

    def __missing__(self, name: str) -> Any:
        if name in self.others:
            raise DataError(_about_text(f"Column '{name}'", "text"))
        raise DataError(f"There is no column '{name}': expected one of {[*self, *self.others]}.")

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Return the columns, and their names with those left out."""
        return tuple(self.values()), (tuple(self), self.others)

    @classmethod
    def tree_unflatten(cls, names: tuple, columns: tuple) -> Columns:
        """Put together what `tree_flatten` took apart."""
        return cls(dict(zip(names[0], columns, strict=True)), names[1])


def read_argument(name: str, value: Values, double: bool) -> Values:
    """Return an argument as a program takes it.

    Args:
        name: the name of the argument in messages, such as `data['t']`.
        value: the argument.
        double: whether the program computes in double precision.

    Raises:
        DataError: for text, for masked arrays, and for numbers that single precision would change.
    """
    if value is None or isinstance(value, str | bytes | bool | int | float | complex):
        return value
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "tocsr"):
        return _read_sparse(name, value, double)
    if is_frame(value):
        return _read_frame(name, value, double)
    if isinstance(value, np.generic):
        refuse_lost_digits(name, np.asarray(value), double)
        return value
    if isinstance(value, list | tuple) and _is_array_of_numbers(value):
        return _read_array(name, rectangular(f"Argument '{name}'", value), double)
    parts = dict(_parts(name, value))
    if parts:
        read = {key: read_argument(at, part, double) for key, (at, part) in parts.items()}
        return _rebuild(value, read)
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return _read_array(name, value, double)
    return _read_pytree(name, value, double)


def with_tuples_as_arrays(tree: Values) -> Values:
    """Return arguments in which tuples of whole numbers are arrays, as data are."""
    if isinstance(tree, tuple) and tree and all(_is_plain_number(entry) for entry in tree):
        return host_array(np.asarray(tree))
    parts = dict(_parts("", tree))
    read = {key: with_tuples_as_arrays(part) for key, (_, part) in parts.items()}
    return _rebuild(tree, read) if read else tree


def with_frames(tree: Values) -> Values:
    """Return arguments in which tables are those of pandas, where they were."""
    if isinstance(tree, TableArray | Columns):
        return tree if tree.frame is None else tree.frame
    parts = dict(_parts("", tree))
    read = {key: with_frames(part) for key, (_, part) in parts.items()}
    return _rebuild(tree, read) if read else tree


def describe(name: str, value: Values) -> str:
    """Return an argument's name, type and shape for messages."""
    if is_frame(value):
        return f"{name} with the columns {', '.join(map(str, value.columns))}"
    if isinstance(value, np.ndarray | jax.Array):
        return f"{name} {value.dtype} {tuple(value.shape)}"
    parts = dict(_parts(name, value))
    if parts:
        return ", ".join(describe(at, part) for at, part in parts.values())
    shown = repr(value)
    return f"{name}={shown if len(shown) < 30 else type(value).__name__}"


def _parts(name: str, value: Values) -> Iterator[tuple[Any, tuple[str, Any]]]:
    """Yield the parts of a list, tuple or dictionary by key, each with its name in messages."""
    if isinstance(value, dict):
        yield from ((key, (f"{name}[{key!r}]", part)) for key, part in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        fields: Any = getattr(value, "_fields", ())
        for key, part in enumerate(value):
            yield key, (f"{name}.{fields[key]}", part)
    elif isinstance(value, list | tuple):
        yield from ((key, (f"{name}[{key}]", part)) for key, part in enumerate(value))


def _rebuild(value: Values, parts: dict) -> Values:
    """Return a list, tuple or dictionary with other parts."""
    if isinstance(value, Columns):
        return Columns(parts, value.others, value.frame)
    if isinstance(value, dict):
        # whatever kind of dictionary it is
        copied = value.copy()
        copied.update(parts)
        return copied
    if hasattr(value, "_fields"):
        return type(value)(*parts.values())
    return tuple(parts.values()) if isinstance(value, tuple) else list(parts.values())


def _is_plain_number(value: object) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _is_array_of_numbers(value: list | tuple) -> bool:
    """Whether a list or tuple stands for an array.

    So does a list of numbers or text, or of equal arrays; and a tuple of numbers not all whole.
    Whole numbers in a tuple may be a shape.
    """
    if hasattr(value, "_fields"):
        return False
    flat = list(_flat(value))
    plain = bool(flat) and all(_is_plain_number(x) or isinstance(x, str) or x is None for x in flat)
    if isinstance(value, tuple):
        numbers = [x for x in flat if _is_plain_number(x)]
        return plain and len(numbers) == len(flat) and any(isinstance(x, float) for x in numbers)
    arrays = [x for x in value if isinstance(x, np.ndarray | jax.Array)]
    alike = {(x.shape, np.dtype(x.dtype).kind) for x in arrays}
    return plain or (len(arrays) == len(value) > 0 and len(alike) == 1)


def _flat(value: object) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _read_array(name: str, value: Values, double: bool) -> AbstractHostArray:
    """Return what can be seen as an array as one."""
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise DataError(
                f"Argument '{name}' is a masked array, whose mask the program would not see: give "
                "the values and the mask as two arguments, and use numpyro.handlers.mask."
            )
        value = value.filled()
    array = _numbers_of_pandas(value)
    if array.dtype.kind in "OUS":
        raise DataError(_about_text(f"Argument '{name}'", array.ravel()[:1].tolist()))
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    refuse_lost_digits(name, array, double)
    is_column = hasattr(value, "to_frame") and array.dtype.kind in "iufb"
    return np.array(array).view(SeriesArray) if is_column else host_array(array)


def _numbers_of_pandas(value: Values) -> np.ndarray:
    """Return values as an array; nullable numbers of pandas become plain ones."""
    nullable = not isinstance(getattr(value, "dtype", np.dtype(float)), np.dtype)
    if not nullable or not hasattr(value, "isna") or not hasattr(value, "to_numpy"):
        return np.asarray(value)
    if getattr(value.dtype, "kind", "O") in "iufb":
        missing = bool(np.any(value.isna()))
        kind = float if missing else value.dtype.numpy_dtype
        return value.to_numpy(dtype=kind, na_value=np.nan) if missing else value.to_numpy(kind)
    if getattr(value.dtype, "kind", "O") == "M":
        return value.to_numpy(dtype="datetime64[ns]")
    return np.asarray(value)


def _about_text(what: str, got: object) -> str:
    return (
        f"{what}: a program cannot compute with text: got {got}..., give numbers, e.g. category "
        "codes (`column.astype('category').cat.codes.to_numpy()`)."
    )


def _read_sparse(name: str, value: Values, double: bool) -> Values:
    from jax.experimental.sparse import BCOO

    check_sparse(value, name)
    matrix = value.tocsr()
    refuse_lost_digits(name, np.asarray(matrix.data), double)
    return BCOO.from_scipy_sparse(matrix)


def _read_frame(name: str, frame: Frame, double: bool) -> Values:
    """Return a table as the matrix of its columns, or as columns where some are not numbers."""
    columns, others = {}, []
    for label in frame.columns:
        column = frame[label]
        if is_number(column) or getattr(column.dtype, "kind", "O") in DATES:
            columns[str(label)] = _read_array(f"{name}[{label!r}]", column, double)
        else:
            others.append(str(label))
    whole = frame.copy()
    if others or not columns or any(column.dtype.kind in DATES for column in columns.values()):
        return Columns(columns, tuple(others), whole)
    return table_array(columns, whole)


def _read_pytree(name: str, value: Values, double: bool) -> Values:
    """Return any other object, in whose leaves arrays are read where JAX knows its leaves."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(value)
    if jax.tree_util.all_leaves([value]):
        return value
    read = [read_argument(name + jax.tree_util.keystr(path), leaf, double) for path, leaf in leaves]
    return jax.tree.unflatten(structure, read)
