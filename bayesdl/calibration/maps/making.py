"""The front door of recalibration: a map is used where rows that it has not seen speak for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np

from bayesdl.calibration.conformal.making import (
    held_out,
    refuse_adjusted,
    warn_of_training_order,
)
from bayesdl.calibration.maps.levels import FITTERS, MAPS, AbstractLevelMap, NoMap
from bayesdl.calibration.maps.prediction import RecalibratedClasses, RecalibratedPrediction
from bayesdl.calibration.maps.probabilities import (
    CLASS_FITTERS,
    CLASS_MAPS,
    AbstractClassMap,
    NoClassMap,
)
from bayesdl.calibration.maps.transforms import (
    Outcome,
    is_single,
    of_held_out,
    of_training_rows,
)
from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.adjustment import AbstractAdjustment, Rows, parts_of
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.posterior.running import announce
from bayesdl.typing import ColumnLike, TableLike
from inference.core.typing import Info

# parts of the rows, each judged by a map that the others made
FOLDS = 10
# rows below which no map is learned
FEWEST = 20
# what is tried where no map is asked for
TRIED = {"class": ("temperature",), "real": ("beta", "spline"), "count": ("beta", "spline")}

M = TypeVar("M")


@dataclasses.dataclass(frozen=True, eq=False)
class Recalibrated(AbstractAdjustment):
    """Recalibrated predictions.

    Attributes:
        map: the map of levels or of probabilities.
        rows: the number of rows that it was learned from.
        held_out: whether these rows were held out, rather than left out one by one.
        gain: what the map gains in log density per row, on rows that it has not seen, in nats.
        error: its standard error.
        notes: what a user should know.
    """

    map: AbstractLevelMap | AbstractClassMap
    rows: int
    held_out: bool
    gain: float
    error: float
    notes: tuple[str, ...] = ()
    name: ClassVar[str] = "recalibrated"
    verb: ClassVar[str] = "recalibrate"

    @property
    def label(self) -> str:
        if self.map.name == "none":
            return "calibrated as it was"
        return f"recalibrated ({self.map.name})"

    def words(self) -> tuple[str, ...]:
        source = "held-out rows" if self.held_out else "training rows, each left out"
        gain = f"{self.gain:.3f} +- {self.error:.3f} nats a row on rows that it has not seen"
        if self.map.name == "none":
            first = f"no change needed, by {self.rows} {source}; a map would gain {gain}"
        else:
            first = f"the map {self.map.name!r}, by {self.rows} {source}"
            first += "" if np.isnan(self.gain) else f", gains {gain}"
        return (f"calibration: {first}.", *self.notes)

    def stored(self) -> Info:
        return {
            "map": self.map.name,
            "kind": "class" if isinstance(self.map, AbstractClassMap) else "level",
            "numbers": self.map.stored(),
            "rows": self.rows,
            "held_out": self.held_out,
            "gain": self.gain,
            "error": self.error,
            "notes": list(self.notes),
        }

    @classmethod
    def from_stored(cls, stored: Info) -> Recalibrated:
        """Rebuild what `stored` gave."""
        known: Any = CLASS_MAPS if stored["kind"] == "class" else MAPS
        made = known[stored["map"]](**stored["numbers"])
        rest = {k: v for k, v in stored.items() if k not in ("map", "kind", "numbers", "notes")}
        return cls(made, **rest, notes=tuple(stored["notes"]))

    def adjust(self, prediction: AbstractPrediction, rows: Rows) -> AbstractPrediction:
        if self.map.name == "none":
            return prediction
        base: Any = prediction
        made: Any = self.map
        parts = parts_of(base)
        if prediction.target.kind == "class":
            return RecalibratedClasses(**parts, base=base, map=made)
        return RecalibratedPrediction(**parts, base=base, levels=made)


def recalibrate(
    posterior: AbstractPosterior,
    X: TableLike | None,
    y: ColumnLike | None,
    name: str | None,
    seed: int,
) -> Recalibrated:
    """Return the recalibration that was asked for; see `Posterior.recalibrate`."""
    refuse_adjusted(posterior, "recalibrate")
    if (X is None) != (y is None):
        lacking = "y" if y is None else "X"
        raise DataError(
            f"recalibrate: {lacking} is missing: give both X and y of held-out rows, or neither."
        )
    target = posterior.model.target(posterior.schema, posterior.problem)
    known = tuple(CLASS_FITTERS if target.kind == "class" else FITTERS)
    if name is not None and name not in known:
        raise ValueError(
            f"recalibrate(map={name!r}): expected one of {', '.join(map(repr, known))}."
        )
    if X is None or y is None:
        warn_of_training_order(posterior)
        _need_one_target(posterior.predict())
        outcome = of_training_rows(posterior, seed)
    else:
        prediction, values = held_out(posterior, X, y)
        _need_one_target(prediction)
        outcome = of_held_out(prediction, values, seed)
    names = TRIED[target.kind] if name is None else (name,)
    made = (
        _class_map(outcome, names, name, seed)
        if target.kind == "class"
        else (_level_map(outcome, names, name, seed))
    )
    made = dataclasses.replace(made, held_out=X is not None, notes=outcome.notes)
    announce(made.words()[0])
    return made


def _need_one_target(prediction: AbstractPrediction) -> None:
    """Refuse several targets, whose joint density a map of each would break."""
    if not is_single(prediction):
        raise ModelError(
            "recalibrate is for one target: several vary together, and a map of each would not "
            "give a joint density. Fit one model for each."
        )


def _level_map(
    outcome: Outcome, names: tuple[str, ...], asked: str | None, seed: int
) -> Recalibrated:
    """Return the map of levels that gains most."""
    u = outcome.levels
    _need_rows(len(u))
    gains = {}
    for name in names:
        if not MAPS[name].has_density:
            return Recalibrated(FITTERS[name](u), len(u), False, float("nan"), float("nan"))
        gains[name] = _held_out_gains(
            np.zeros(len(u)),
            seed,
            lambda rows, name=name: FITTERS[name](u[rows]),
            lambda made, rows: made.log_density(u[rows]),
        )
    return _best(gains, asked, lambda name: FITTERS[name](u), NoMap())


def _class_map(
    outcome: Outcome, names: tuple[str, ...], asked: str | None, seed: int
) -> Recalibrated:
    """Return the map of probabilities that gains most."""
    probs, labels = outcome.probs, outcome.labels
    _need_rows(len(labels))

    def log_own(probs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        own = np.take_along_axis(probs, labels[rows][:, None], axis=1)[:, 0]
        return np.log(np.maximum(own, 1e-12))

    gains = {
        name: _held_out_gains(
            labels,
            seed,
            lambda rows, name=name: CLASS_FITTERS[name](probs[rows], labels[rows]),
            lambda made, rows: log_own(made(probs[rows]), rows) - log_own(probs[rows], rows),
        )
        for name in names
    }
    return _best(gains, asked, lambda name: CLASS_FITTERS[name](probs, labels), NoClassMap())


def _held_out_gains(
    strata: np.ndarray,
    seed: int,
    fit: Callable[[np.ndarray], M],
    gain: Callable[[M, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the gain of each row by a map that the other parts made.

    Args:
        strata: what each row is; every part has as many of each as can be.
        seed: the seed of the parts.
        fit: a function of row numbers that makes a map.
        gain: a function of a map and row numbers that gives the gain of each.
    """
    count = len(strata)
    order = np.random.default_rng(seed).permutation(count)
    fold = np.empty(count, int)
    fold[order[np.argsort(strata[order], kind="stable")]] = np.arange(count) % FOLDS
    gains = np.empty(count)
    for part in range(FOLDS):
        out = np.flatnonzero(fold == part)
        gains[out] = gain(fit(np.flatnonzero(fold != part)), out)
    return gains


def _best(
    gains: dict[str, np.ndarray], asked: str | None, fit: Callable[[str], Any], none: Any
) -> Recalibrated:
    """Return the map that gains most, or none where no gain is seen and none was asked for."""
    name = max(gains, key=lambda name: gains[name].mean())
    rows = len(gains[name])
    mean, error = float(gains[name].mean()), float(gains[name].std() / np.sqrt(rows))
    made = fit(name) if asked is not None or mean > error else none
    return Recalibrated(made, rows, False, mean, error)


def _need_rows(rows: int) -> None:
    """Refuse fewer rows than a map can be learned from."""
    if rows < FEWEST:
        raise DataError(
            f"recalibrate got {rows} rows and needs at least {FEWEST}: give more, or use "
            "post.conformal, for which 9 are enough at 90 %."
        )
