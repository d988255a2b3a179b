"""What the columns of new rows hold, for readers that send rows from other programs."""

from __future__ import annotations

import dataclasses

from bayesdl.data import cells
from bayesdl.typing import Frame


@dataclasses.dataclass(frozen=True)
class Field:
    """A column of new rows.

    Attributes:
        name: its name.
        kind: "number", "category", "date" or "duration".
        levels: the categories that the training rows had; None for other kinds.
    """

    name: str
    kind: str = cells.NUMBER
    levels: tuple[str, ...] | None = None


def fields_of(table: Frame) -> tuple[Field, ...]:
    """Return the columns of a table of training rows."""
    found = []
    for name in table.columns:
        levels = getattr(table[name].dtype, "categories", None)
        if levels is None:
            found.append(Field(str(name)))
        else:
            found.append(Field(str(name), cells.CATEGORY, tuple(map(str, levels))))
    return tuple(found)
