"""Names for the types of public functions.

What users pass is validated by `bayesdl.data`, with errors that say the cure; therefore the
aliases for user data are checked by type checkers only, and are `object` at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from inference.core.engine import AbstractEngine
from inference.core.progress import AbstractProgress
from inference.core.typing import Integer, Key, Params, Program, SiteArrays, StoredArrays

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse
    from jax.typing import ArrayLike
    from matplotlib.axes import Axes

    TableLike: TypeAlias = (
        ArrayLike
        | Sequence[Any]
        | Mapping[str, Any]
        | pd.DataFrame
        | pd.Series
        | scipy.sparse.sparray
        | scipy.sparse.spmatrix
    )
    """Rows of inputs X: a numeric array (rows, columns), a DataFrame, or what becomes one."""

    ColumnLike: TypeAlias = ArrayLike | Sequence[Any] | pd.Series | pd.DataFrame | pd.Index
    """Targets y, labels or names: an array (rows,) or (rows, targets), a Series, or a list."""

    DataFrame: TypeAlias = pd.DataFrame
    """A table that a function returns; pandas is imported when it is made."""

    AxesLike: TypeAlias = Axes | Sequence[Axes] | np.ndarray | None
    """Matplotlib axes to draw on, one or several; None makes new ones."""

    EngineLike: TypeAlias = AbstractEngine | Literal["auto"] | str
    """An engine, the name of one in any case, or "auto"."""
else:
    EngineLike = TableLike = ColumnLike = DataFrame = AxesLike = object

Values: TypeAlias = Any
"""Cells as a user gave them; what they are is found out where they are validated."""

Frame: TypeAlias = Any
"""A pandas DataFrame; pandas is imported lazily, and has no types of its own."""

Series: TypeAlias = Any
"""A pandas Series."""

Schema: TypeAlias = Any
"""What a model learned about its data: a `TableSchema` or a `ProgramSchema`."""

ProgressLike: TypeAlias = bool | AbstractProgress
"""Whether to show a progress bar, or what shows it."""

__all__ = [
    "AxesLike",
    "ColumnLike",
    "DataFrame",
    "EngineLike",
    "Frame",
    "Integer",
    "Key",
    "Params",
    "Program",
    "ProgressLike",
    "Schema",
    "Series",
    "SiteArrays",
    "StoredArrays",
    "TableLike",
    "Values",
]
