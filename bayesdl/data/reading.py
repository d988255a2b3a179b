"""How a table is read: which columns, and what becomes of missing cells, dates and new categories.

These are settings of `fit` for models of tables. They are stored with the fit, so that `predict`,
`score` and loaded files read every later table in the same way.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from bayesdl.data.validation import DataError
from inference.settings import AbstractSettings

CHOICES = {
    "missing": ("indicator", "median", "error"),
    "missing_target": ("error", "drop"),
    "unseen": ("error", "other"),
}
PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # in days


@dataclasses.dataclass(frozen=True)
class Reading(AbstractSettings):
    """How a table is read.

    Attributes:
        drop: the names of columns that are left out, such as ids and free text.
        missing: what becomes of missing cells. "indicator" reads a number as the training median,
            and a category as none of the known ones, each with a column of zeros and ones beside
            it that says where cells were missing; where no training row lacked the cell, it is
            read as with "median", and a warning names the column. "median" reads it as the
            training median, or the most frequent category, as if that were known. "error" refuses
            it.
        missing_target: what becomes of rows whose target is missing: "error" refuses them with
            their numbers, "drop" leaves them out.
        unseen: what becomes of categories that the training rows did not have: "error" refuses
            them, "other" reads them as none of the known ones.
        periods: the periods after which dates repeat themselves, of "year", "week" and "day". Each
            adds a sine and a cosine to the number of days.

    Example:
        >>> Reading(drop="id").drop
        ('id',)
    """

    drop: tuple[str, ...] = ()
    missing: str = "indicator"
    missing_target: str = "error"
    unseen: str = "error"
    periods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("drop", "periods"):
            value: Any = getattr(self, name)
            names = [value] if isinstance(value, str) else value
            try:
                object.__setattr__(self, name, tuple(map(str, names)))
            except TypeError:
                raise DataError(
                    f"{name}={value!r}: expected a list of names, e.g. {name}=['id']."
                ) from None
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise DataError(
                    f"{name}={getattr(self, name)!r}: expected {' or '.join(map(repr, allowed))}."
                )
        unknown = [name for name in self.periods if name not in PERIODS]
        if unknown:
            raise DataError(
                f"periods={list(self.periods)!r}: expected some of {', '.join(map(repr, PERIODS))}."
            )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Reading:
        """Return the settings from keyword arguments of `fit`.

        Raises:
            DataError: for a name that is no such setting, with the nearest that is.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise DataError(_unknown_option(name, [*known, "weights"]))
        return cls(**options)


def _unknown_option(name: str, known: list[str]) -> str:
    """Return the message for an argument of `fit` that no model of tables takes."""
    near = difflib.get_close_matches(name, [*known, "engine", "seed", "progress"], n=1)
    meant = f" Did you mean {near[0]}=?" if near else ""
    return (
        f"fit got {name}=, which a model of tables does not take.{meant} It takes X, y and "
        f"{', '.join(known)}."
    )
