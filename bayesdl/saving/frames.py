"""Tables of pandas among the arguments of a program, as arrays and JSON data.

A column is stored as its numbers, its dates, its text, or the codes of its categories, with its
type; the index likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bayesdl.saving.errors import BundleError
from bayesdl.typing import Frame, Series
from inference.core.typing import Info

Place = Callable[[Any], Info]
Unpack = Callable[[Info], Any]


def place_frame(frame: Frame, place: Place) -> Info:
    """Return the layout of a table.

    Args:
        frame: the table.
        place: stores an array, and says where.

    Raises:
        BundleError: for names or cells that have no place in a file.
    """
    labels = list(frame.columns)
    for label in (*labels, frame.index.name):
        if label is not None and not isinstance(label, str | int | float):
            raise BundleError(
                f"A table has the column {label!r}, which cannot be stored: use text or numbers "
                "as names."
            )
    columns = [_place_column(label, frame[label], place) for label in labels]
    index = _place_column("index", frame.index.to_series(), place)
    return {"names": labels, "columns": columns, "index": index, "index name": frame.index.name}


def restore_frame(layout: Info, unpack: Unpack) -> Frame:
    """Return the table of a layout.

    Args:
        layout: what `place_frame` returned.
        unpack: gives the array of a place.
    """
    import pandas as pd

    index = pd.Index(_restore_column(layout["index"], unpack), name=layout["index name"])
    columns = [_restore_column(column, unpack) for column in layout["columns"]]
    frame = pd.DataFrame(dict(enumerate(columns)))
    frame.columns = layout["names"]
    frame.index = index
    return frame


def _place_column(label: object, column: Series, place: Place) -> Info:
    """Return the layout of one column."""
    kind: Any = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "iufbcmM":
        return {"numbers": place(column.to_numpy())}
    if kind == "category":
        known = column.cat.categories.to_series()
        return {
            "codes": place(column.cat.codes.to_numpy()),
            "categories": _place_column(label, known, place),
            "ordered": bool(column.cat.ordered),
        }
    if getattr(kind, "tz", None) is not None:
        unit = getattr(kind, "unit", "ns")
        return {"numbers": place(column.to_numpy(f"datetime64[{unit}]")), "zone": str(kind)}
    if getattr(kind, "kind", "O") in "iufb" and hasattr(column, "isna"):
        numbers = column.to_numpy(float, na_value=np.nan)
        return {"numbers": place(numbers), "type": str(kind)}
    cells = [None if _is_missing(cell) else cell for cell in column.tolist()]
    wrong = [cell for cell in cells if not isinstance(cell, str | bool | int | float | None)]
    if wrong:
        raise BundleError(
            f"Column {label!r} of a table holds {wrong[0]!r}, which cannot be stored: use numbers, "
            "dates, text or categories."
        )
    return {"cells": cells, "type": str(kind)}


def _is_missing(cell: object) -> bool:
    import pandas as pd

    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


def _restore_column(layout: Info, unpack: Unpack) -> Any:
    """Return one column as an array of pandas."""
    import pandas as pd

    if "codes" in layout:
        categories = pd.Index(_restore_column(layout["categories"], unpack))
        return pd.Categorical.from_codes(
            unpack(layout["codes"]), categories=categories, ordered=layout["ordered"]
        )
    if "cells" in layout:
        return pd.array(layout["cells"], dtype=layout["type"])
    numbers = np.asarray(unpack(layout["numbers"]))
    if "zone" in layout:
        return pd.Series(numbers).dt.tz_localize("UTC").astype(layout["zone"]).array
    return pd.array(numbers, dtype=layout["type"]) if "type" in layout else numbers
