"""Split conformal sets: held-out rows are ranked by one score, within groups where there are any.

The set of a new row is all y whose score is at most the k-th smallest of the n held-out scores,
k = ceil((n + 1) * level), so that k / (n + 1) <= P(y in set) for exchangeable rows whatever the
model, and within each group where groups are given (Mondrian; Vovk, Gammerman and Shafer 2005).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from bayesdl.calibration.conformal.labels import label_scores, with_top
from bayesdl.calibration.conformal.prediction import (
    AbstractSets,
    ConformalClasses,
    ConformalPrediction,
)
from bayesdl.calibration.conformal.scores import ends_of
from bayesdl.calibration.conformal.systems import SystemPrediction
from bayesdl.calibration.held_out import group_numbers, labels_in
from bayesdl.calibration.ranks import all_finite, threshold
from bayesdl.posterior.adjustment import AbstractAdjustment, Rows, parts_of
from bayesdl.posterior.interface import AbstractPrediction
from inference.core.typing import Info

# groups that are the classes themselves
BY_CLASS = "class"


@dataclasses.dataclass(frozen=True, eq=False)
class Split(AbstractAdjustment):
    """Conformal sets from held-out rows.

    Attributes:
        level: the level of the sets.
        score: the name of the score.
        scores: the scores of the held-out rows, shape (rows,) or (rows, targets); signed residuals
            for a predictive system.
        groups: the group of each held-out row; None for one group.
        columns: the columns of X that say the group; None where labels are given with the rows.
        by_class: whether the groups are the classes, which no row need say.
        system: whether predictions are a whole distribution.
        reached: the share of held-out rows in the sets of the model, before, of all rows and of
            the worst group: nominal sets against what happened.
        worst: the worst group; empty where there is one group.
        seed: the seed of ties.
    """

    level: float
    score: str
    scores: np.ndarray
    groups: np.ndarray | None = None
    columns: list[str] | None = None
    by_class: bool = False
    system: bool = False
    reached: tuple[float, float] = (np.nan, np.nan)
    worst: str = ""
    seed: int = 0
    name: ClassVar[str] = "split"
    verb: ClassVar[str] = "conformal"

    @property
    def takes_groups(self) -> bool:
        """Whether predictions need the group of each row."""
        return self.groups is not None and self.columns is None and not self.by_class

    @property
    def label(self) -> str:
        kind = "predictive system" if self.system else f"conformal {100 * self.level:.4g} %"
        return f"{kind} by {len(self.scores)} held-out rows"

    def words(self) -> tuple[str, ...]:
        rows, level = len(self.scores), self.level
        first = (
            f"intervals: {100 * level:.4g} % by the score {self.score!r} of {rows} held-out rows. "
            "It holds for new rows like these, on average over them, whatever the model."
        )
        share, worst = self.reached
        if np.isnan(share):
            return (first,)
        error = np.sqrt(max(share * (1 - share), 0.25 / rows) / rows)
        second = (
            f"before, the model's own {100 * level:.4g} % intervals held {100 * share:.1f} +- "
            f"{100 * error:.1f} % of these rows"
        )
        where = f"; in the worst group, {self.worst}, {100 * worst:.1f} %" if self.worst else ""
        return (first, f"{second}{where}.")

    def stored(self) -> Info:
        return {
            "level": self.level,
            "score": self.score,
            "scores": self.scores,
            "groups": None if self.groups is None else self.groups.tolist(),
            "columns": self.columns,
            "by_class": self.by_class,
            "system": self.system,
            "reached": list(self.reached),
            "worst": self.worst,
            "seed": self.seed,
        }

    @classmethod
    def from_stored(cls, stored: Info) -> Split:
        """Rebuild what `stored` gave."""
        groups = None if stored["groups"] is None else np.array(stored["groups"])
        read = {**stored, "groups": groups, "reached": tuple(stored["reached"])}
        if "by_class" not in stored and stored["columns"] == [BY_CLASS]:
            # earlier files have classes, as whole numbers, like a column of that name
            read["by_class"] = groups is not None and groups.dtype.kind == "i"
            read["columns"] = None if read["by_class"] else stored["columns"]
        return cls(**read)

    def adjust(self, prediction: AbstractPrediction, rows: Rows) -> AbstractPrediction:
        base: Any = prediction
        numbers = self._numbers(rows, prediction.stream.num_rows)
        parts = parts_of(base)
        if prediction.target.kind == "class":
            sets = _LabelSets(base, self, numbers)
            return ConformalClasses(**parts, base=base, maker=sets, level=self.level)
        if self.system:
            scaled = self.score == "sd"
            return SystemPrediction(
                **parts,
                base=base,
                scores=self.scores,
                members=self._members(),
                groups=numbers,
                scaled=scaled,
            )
        sets = _NumberSets(base, self, numbers)
        return ConformalPrediction(**parts, base=base, sets=sets, level=self.level)

    def thresholds(self, level: float) -> np.ndarray:
        """Return the threshold of each group, shape (groups,) or (groups, targets)."""
        found = []
        for members in self._members():
            scores = self.scores[members]
            columns = scores.reshape(len(scores), -1).T
            values = [threshold(column, level) for column in columns]
            found.append(np.array(values).reshape(scores.shape[1:]))
        return np.stack(found)

    def _members(self) -> list[np.ndarray]:
        """Return the held-out rows of each group."""
        if self.groups is None:
            return [np.arange(len(self.scores))]
        return [np.flatnonzero(self.groups == g) for g in np.unique(self.groups)]

    def _numbers(self, rows: Rows, num_rows: int | None) -> np.ndarray | None:
        """Return the number of each new row's group; None for one group."""
        if self.groups is None or self.by_class:
            return None
        if self.columns is not None:
            labels = labels_in(self.columns, rows.X)
            return group_numbers(labels, np.unique(self.groups), num_rows, None)
        return group_numbers(rows.groups, np.unique(self.groups), num_rows, rows.X)


@dataclasses.dataclass(frozen=True, eq=False)
class _NumberSets(AbstractSets):
    """The sets of some rows of numbers.

    Attributes:
        base: the prediction of the model.
        adjustment: the adjustment.
        groups: the number of the group of each row; None for one group.
    """

    base: Any
    adjustment: Split
    groups: np.ndarray | None

    def at(self, level: float) -> np.ndarray:
        mean = self.base.mean
        all_finite(np.atleast_1d(mean), "Predictions")
        found = self.adjustment.thresholds(level)
        chosen = found[0] if self.groups is None else found[self.groups]
        thresholds = np.broadcast_to(chosen, mean.shape)
        return ends_of(self.adjustment.score, self.base, thresholds, self.adjustment.level)


@dataclasses.dataclass(frozen=True, eq=False)
class _LabelSets(AbstractSets):
    """The sets of some rows of labels.

    Attributes:
        base: the prediction of the model.
        adjustment: the adjustment.
        groups: the number of the group of each row; None for one group, or for classes.
    """

    base: Any
    adjustment: Split
    groups: np.ndarray | None

    def at(self, level: float) -> np.ndarray:
        made, probs = self.adjustment, self.base.probs
        scores = label_scores(made.score, probs, made.seed)
        found = made.thresholds(level)
        if made.by_class:
            limits = found[None]
        else:
            limits = found[0] if self.groups is None else found[self.groups][:, None]
        return with_top(scores <= limits, probs)
