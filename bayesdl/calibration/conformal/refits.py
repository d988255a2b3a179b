"""The jackknife+ and CV+: intervals from fits that have not seen a part of the training rows.

Each training row i has a residual R_i = |y_i - m_-i(x_i)| by the fit without its fold; a new row
has the predictions m_-i(x) of all fits. `jackknife_plus` in `bayesdl.calibration.ranks` has the
formula and the guarantee. The units of inputs and targets are those of the whole fit.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar, NamedTuple

import numpy as np

from bayesdl.calibration.conformal.prediction import AbstractSets, ConformalPrediction
from bayesdl.calibration.conformal.scores import counts_inside
from bayesdl.calibration.ranks import jackknife_plus, refuse_few
from bayesdl.data.validation import ModelError
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.adjustment import AbstractAdjustment, Rows, parts_of
from bayesdl.posterior.core import AbstractPosterior, stream_of
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.posterior.prediction import Prediction
from bayesdl.posterior.running import run_engine
from inference.core.typing import Info
from inference.settings import is_whole

# new rows whose intervals are made at once
CHUNK = 1024


class Fold(NamedTuple):
    """A fit without some of the training rows.

    Attributes:
        posterior: the posterior.
    """

    posterior: AbstractPosterior

    def mean(self, args: tuple, like: AbstractPrediction) -> np.ndarray:
        """Return the predicted means of rows, in the units of y."""
        rows, post = len(args[0]), self.posterior
        stream = stream_of(post, args, {}, rows, like.stream.batch_size, post.seed)
        return Prediction(stream, like.target, like.seed).mean


@dataclasses.dataclass(frozen=True, eq=False)
class Refits(AbstractAdjustment):
    """Intervals of the jackknife+ or CV+.

    Attributes:
        level: the level of the intervals.
        number: the fold of each training row.
        residuals: the absolute residual of each row by the fit without its fold.
        folds: the fits.
    """

    level: float
    number: np.ndarray
    residuals: np.ndarray
    folds: tuple[Fold, ...]
    name: ClassVar[str] = "refits"
    verb: ClassVar[str] = "conformal"

    @property
    def label(self) -> str:
        kind = "jackknife+" if len(self.folds) == len(self.residuals) else "CV+"
        return f"conformal {100 * self.level:.4g} % by {kind}, {len(self.folds)} refits"

    def words(self) -> tuple[str, ...]:
        least = 100 * (1 - 2 * (1 - self.level))
        return (
            f"intervals: {100 * self.level:.4g} % by {len(self.folds)} refits without parts of the "
            f"{len(self.residuals)} training rows. They hold {least:.4g} % of new rows at least, "
            "and in practice for about what they say.",
        )

    def stored(self) -> Info:
        fits = [
            {"arrays": dict(fold.posterior.raw.arrays()), "info": _plain(fold.posterior.raw.info)}
            for fold in self.folds
        ]
        return {
            "level": self.level,
            "number": self.number,
            "residuals": self.residuals,
            "fits": fits,
        }

    @classmethod
    def from_stored(cls, stored: Info, posterior: AbstractPosterior) -> Refits:
        """Rebuild what `stored` gave, for the posterior of all rows."""
        folds = []
        for number, fit in enumerate(stored["fits"]):
            kept = stored["number"] != number
            with precision_scope(posterior.model):
                problem = posterior.engine.pose(_problem(posterior, kept))
                raw = posterior.engine.restore(problem, fit["arrays"], fit["info"])
            folds.append(Fold(dataclasses.replace(posterior, problem=problem, raw=raw)))
        return cls(stored["level"], stored["number"], stored["residuals"], tuple(folds))

    def adjust(self, prediction: AbstractPrediction, rows: Rows) -> AbstractPrediction:
        base: Any = prediction
        parts = parts_of(base)
        sets = _RefitSets(base, self)
        return ConformalPrediction(**parts, base=base, sets=sets, level=self.level)


@dataclasses.dataclass(frozen=True, eq=False)
class _RefitSets(AbstractSets):
    """The intervals of some rows.

    Attributes:
        base: the prediction of the model.
        adjustment: the adjustment.
        centers: the predictions of each fold, once they are known.
    """

    base: Any
    adjustment: Refits
    centers: list[np.ndarray] = dataclasses.field(default_factory=list)

    def at(self, level: float) -> np.ndarray:
        made = self.adjustment
        if not self.centers:
            args = self.base.stream.args
            self.centers.append(np.stack([fold.mean(args, self.base) for fold in made.folds]))
        whole = self.centers[0]
        # some rows after the other, as each has a center for every training row
        parts = [
            jackknife_plus(whole[:, start : start + CHUNK][made.number], made.residuals, level)
            for start in range(0, whole.shape[1], CHUNK)
        ]
        ends = np.concatenate(parts, axis=1)
        return counts_inside(ends) if self.base.target.kind == "count" else ends


def refitted(posterior: AbstractPosterior, level: float, refits: object, seed: int) -> Refits:
    """Fit the model without each fold of the training rows.

    Args:
        posterior: the posterior of all rows.
        level: the level of the intervals.
        refits: the number of folds; the number of rows gives the jackknife+.
        seed: the seed of the split into folds.

    Raises:
        ModelError: for programs, classes, several targets, or a number of folds that makes no
            sense.
        DataError: for fewer rows than the level needs.
    """
    model = posterior.model
    target = model.target(posterior.schema, posterior.problem)
    if not model.rows_are_independent or target.kind == "class" or not target.flat:
        raise ModelError(
            "refits are for models of tables with one target of numbers: leave them out, "
            "post.conformal(level), or give held-out rows, post.conformal(level, X, y)."
        )
    y = np.asarray(target.in_units(posterior.problem.args[1]), np.float64)
    if not is_whole(refits, 2) or int(str(refits)) > len(y):
        raise ModelError(
            f"conformal(refits={refits!r}): expected a whole number of folds from 2 to the number "
            f"of training rows, {len(y)}."
        )
    # before the fits, which take their time
    refuse_few(len(y), level, "The training data")
    count = int(str(refits))
    order = np.random.default_rng(seed).permutation(len(y))
    number = np.empty(len(y), int)
    number[order] = np.arange(len(y)) % count
    residuals, folds = np.empty(len(y)), []
    whole = posterior.predict()
    for fold in range(count):
        problem = _problem(posterior, number != fold)
        run = run_engine(model, problem, posterior.engine, posterior.seed, False)
        fitted = dataclasses.replace(posterior, problem=run.problem, raw=run.result)
        folds.append(Fold(fitted))
        out = number == fold
        args = tuple(np.asarray(arg)[out] for arg in whole.stream.args)
        residuals[out] = np.abs(y[out] - folds[-1].mean(args, whole))
    return Refits(level, number, residuals, tuple(folds))


def _problem(posterior: AbstractPosterior, kept: np.ndarray) -> Any:
    """Return the problem of some of the training rows."""
    if posterior.problem.kwargs:
        raise ModelError(
            "The rows of this fit have weights that are no counts, and refits take each row for "
            "one: fit without weights."
        )
    args = tuple(np.asarray(arg)[kept] for arg in posterior.problem.args)
    with precision_scope(posterior.model):
        return posterior.model.build_problem(posterior.schema, args, {})


def _plain(info: Info) -> Info:
    """Return facts about a run as JSON would give them back."""
    return json.loads(json.dumps(info))
