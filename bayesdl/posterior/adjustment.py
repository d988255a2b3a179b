"""What may be done to every prediction of a posterior: conformal sets, or recalibration.

A posterior with an adjustment is a posterior still: it predicts, is scored and saved as any other.
The adjustments themselves are in `bayesdl.calibration`.
"""

from __future__ import annotations

import abc
import dataclasses
import warnings
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import ColumnLike
from bayesdl.warnings import TrustWarning
from inference.core.typing import Info


def parts_of(prediction: AbstractPrediction) -> dict[str, Any]:
    """Return what every prediction has, by name, for one that is made of it."""
    return {f.name: getattr(prediction, f.name) for f in dataclasses.fields(AbstractPrediction)}


@dataclasses.dataclass(frozen=True)
class Rows:
    """The new rows of a prediction, as an adjustment may need them.

    Attributes:
        X: the table as it was given; None for the training rows.
        groups: the group of each row, where groups were given as labels.
    """

    X: Any = None
    groups: ColumnLike | None = None


class AbstractAdjustment(abc.ABC):
    """What is done to every prediction of a posterior.

    Attributes:
        name: what files call it.
        verb: the method of a posterior that makes it, for messages.
        takes_groups: whether predictions need the group of each row.
    """

    name: ClassVar[str]
    verb: ClassVar[str]
    takes_groups: bool = False

    @abc.abstractmethod
    def adjust(self, prediction: AbstractPrediction, rows: Rows) -> AbstractPrediction:
        """Return the adjusted prediction."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """What it is, for the title of a posterior."""

    @abc.abstractmethod
    def words(self) -> tuple[str, ...]:
        """Return what a user should know of it, a sentence each, for `diagnose` and reports."""

    @abc.abstractmethod
    def stored(self) -> Info:
        """Return plain values and arrays by name, from which a bundle restores it."""


@runtime_checkable
class Adjustable(Protocol):
    """A posterior, which is a dataclass with an adjustment."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def adjustment(self) -> AbstractAdjustment | None:
        """What is done to predictions."""
        ...


AnyAdjustable = TypeVar("AnyAdjustable", bound=Adjustable)


def plain(posterior: AnyAdjustable) -> AnyAdjustable:
    """Return the posterior whose predictions are those of the model."""
    if posterior.adjustment is None:
        return posterior
    return dataclasses.replace(posterior, adjustment=None)


def changed(posterior: AnyAdjustable, **parts: Any) -> AnyAdjustable:
    """Return the posterior with other parts, without an adjustment that was made for the old ones.

    Args:
        posterior: the posterior.
        **parts: the new parts, by the names of its attributes.
    """
    if posterior.adjustment is not None:
        warnings.warn(
            f"post.{posterior.adjustment.verb}(...) was made for the fit as it was, and is left "
            "out of the new one: call it again.",
            TrustWarning,
            stacklevel=3,
        )
    return dataclasses.replace(plain(posterior), **parts)
