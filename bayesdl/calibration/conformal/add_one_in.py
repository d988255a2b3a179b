"""Conformal Bayes by adding one in: exact full conformal sets from one fit, with no data held out.

With draws z_s and densities l_is = p(y_i | x_i, z_s) of the n training rows, a candidate y at a
new row is added by importance weights,

    w_s ~ p(y | x, z_s),    c_i = sum_s w_s l_is,    c_new = sum_s w_s p(y | x, z_s)

and belongs to the set where (1 + #{i: c_i <= c_new}) / (n + 1) > 1 - level. For exchangeable rows
P(y in set) >= level whatever the model; what is left is the Monte Carlo error of the weights, whose
effective number 1 / sum_s w_s^2 is told (Fong and Holmes 2021, arXiv:2106.06137). Draws of an
approximation q give weights of q, so that sets are nearly, not exactly, what they say; so do rows
that vary together (a Gaussian process), where p(y_i | y_-i, z) stands for p(y_i | x_i, z).
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from bayesdl.calibration.conformal.prediction import (
    AbstractSets,
    ConformalClasses,
    ConformalPrediction,
)
from bayesdl.calibration.conformal.search import Judged, searcher
from bayesdl.calibration.held_out import group_numbers
from bayesdl.calibration.ranks import rank_of
from bayesdl.posterior.adjustment import AbstractAdjustment, Rows, parts_of
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.posterior.streaming import Stream, label_probabilities
from bayesdl.warnings import TrustWarning
from inference.core.result import Conditional
from inference.core.typing import Info

# new rows whose candidates are judged at once
BATCH = 64
# effective draws below which a set is not to be trusted
FEWEST = 50


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingDensities:
    """The densities of the training rows at the draws.

    Attributes:
        scaled: p(y_i | x_i, z_s) over the largest of its row, shape (draws, rows) or (draws, rows,
            targets).
        log_largest: the logarithms of the largest ones, shape (rows,) or (rows, targets).
        draws: which of the posterior's draws they are.
        power: 1 / T where draws are of p(z | y)^(1 / T).
    """

    scaled: np.ndarray
    log_largest: np.ndarray
    draws: np.ndarray
    power: float = 1.0

    @classmethod
    def of(cls, log_densities: np.ndarray, draws: np.ndarray, power: float) -> TrainingDensities:
        """Return densities from their logarithms, of the same shape as `scaled`."""
        largest = log_densities.max(0)
        largest = np.where(np.isfinite(largest), largest, 0.0)
        return cls(np.exp(log_densities - largest), largest, draws, power)

    def of_rows(self, rows: np.ndarray, length: int) -> TrainingDensities:
        """Return the densities of some rows, and of so many that they are `length` rows.

        What is added is never counted.
        """
        more = [(0, 0)] * self.scaled.ndim
        more[1] = (0, length - len(rows))
        scaled = np.pad(self.scaled[:, rows], more)
        largest = np.pad(self.log_largest[rows], more[1:], constant_values=np.inf)
        return TrainingDensities(scaled, largest, self.draws, self.power)


@dataclasses.dataclass(frozen=True, eq=False)
class AddOneIn(AbstractAdjustment):
    """Conformal sets by adding one in.

    Attributes:
        level: the level of the sets.
        densities: the densities of the training rows.
        note: what the guarantee rests on, a sentence.
        chosen: the training rows that are ranked.
        groups: the group of each of them; None for one group.
    """

    level: float
    densities: TrainingDensities
    note: str
    chosen: np.ndarray
    groups: np.ndarray | None = None
    name: ClassVar[str] = "add one in"
    verb: ClassVar[str] = "conformal"

    @property
    def takes_groups(self) -> bool:
        """Whether predictions need the group of each row."""
        return self.groups is not None

    @property
    def label(self) -> str:
        return f"conformal {100 * self.level:.4g} % by adding one in"

    def words(self) -> tuple[str, ...]:
        rows = f"intervals: {100 * self.level:.4g} % by adding one in to {len(self.chosen)} rows"
        return (f"{rows}. {self.note}",)

    def stored(self) -> Info:
        return {
            "level": self.level,
            "note": self.note,
            "chosen": self.chosen,
            "draws": self.densities.draws,
            "groups": None if self.groups is None else self.groups.tolist(),
        }

    def adjust(self, prediction: AbstractPrediction, rows: Rows) -> AbstractPrediction:
        groups = None
        if self.groups is not None:
            known = np.unique(self.groups)
            groups = group_numbers(rows.groups, known, prediction.stream.num_rows, rows.X)
        base: Any = prediction
        sets = _AddedSets(base, self, groups)
        parts = parts_of(base)
        if prediction.target.kind == "class":
            return ConformalClasses(**parts, base=base, maker=sets, level=self.level)
        return ConformalPrediction(**parts, base=base, sets=sets, level=self.level)


@dataclasses.dataclass(frozen=True, eq=False)
class _AddedSets(AbstractSets):
    """The sets of some rows by adding one in.

    Attributes:
        base: the prediction of the model.
        adjustment: the adjustment.
        groups: the number of the group of each row; None for one group.
    """

    base: Any
    adjustment: AddOneIn
    groups: np.ndarray | None
    found: dict[float, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)

    def at(self, level: float) -> np.ndarray:
        if level not in self.found:
            self.found[level] = self._compute(level)
            _warn_few(self.found[level][1])
        return self.found[level][0]

    def ess(self, level: float) -> np.ndarray:
        self.at(level)
        return self.found[level][1]

    def _compute(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return sets and effective draws."""
        made, densities = self.adjustment, self.adjustment.densities
        is_class = self.base.target.kind == "class"
        if made.groups is None or self.groups is None:
            parts = [(slice(None), densities, len(made.chosen))]
        else:
            members = [np.flatnonzero(made.groups == g) for g in np.unique(made.groups)]
            most = max(map(len, members))
            parts = [
                (np.flatnonzero(self.groups == g), densities.of_rows(rows, most), len(rows))
                for g, rows in enumerate(members)
                if np.any(self.groups == g)
            ]
        stream = _thinned(self.base.stream, densities.draws)
        results = []
        for rows, some, count in parts:
            of_rows = stream if isinstance(rows, slice) else _only(stream, rows)
            given = {
                "scaled": some.scaled,
                "log_largest": some.log_largest,
                "power": np.float64(some.power),
                # (1 + count) / (n + 1) > 1 - level
                "need": np.int32(count + 1 - rank_of(level, count)),
                "seed": np.uint32(self.base.seed),
            }
            if is_class:
                results.append(of_rows.map(_judge_classes, given, rowwise=False))
            else:
                results.append(self._ends(of_rows, given))
        if isinstance(parts[0][0], slice):
            return results[0]
        places: list[Any] = [rows for rows, *_ in parts]
        order = np.argsort(np.concatenate(places), kind="stable")
        sets = _join([one[0] for one in results], 0 if is_class else 1)
        ess = np.concatenate([one[1] for one in results])
        return np.take(sets, order, 0 if is_class else 1), ess[order]

    def _ends(self, stream: Stream, given: dict) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of sets of numbers, in the units of y, and the effective draws."""
        found = stream.map(searcher(_judge), given, rowwise=False)
        return ends_in_units(found.ends, found.best, self.base), found.ess


def _judge(log_densities: Array, given: dict) -> Judged:
    """Judge candidates by adding each of them in.

    Args:
        log_densities: log p(y | x, z_s) of candidates, shape (draws, candidates, rows, ...).
        given: the densities of the training rows, and the count that is needed.
    """
    scaled, largest = given["scaled"], given["log_largest"]
    if scaled.ndim == 2:
        return _judge_target(log_densities, scaled, largest, given)
    parts = [
        _judge_target(log_densities[..., t], scaled[..., t], largest[..., t], given)
        for t in range(scaled.shape[-1])
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, -1), *parts)


def _judge_target(log_densities: Array, scaled: Array, largest: Array, given: dict) -> Judged:
    """Judge the candidates of one target."""
    shape = log_densities.shape[1:]
    flat = log_densities.reshape(len(log_densities), -1)
    raised = flat * given["power"].astype(flat.dtype)
    log_weights = raised - logsumexp(raised, axis=0)[None]
    new = logsumexp(log_weights + flat, axis=0)
    weights = jnp.exp(log_weights)
    mixed = jnp.matmul(weights.T, scaled.astype(flat.dtype), precision="highest")
    others = jnp.log(mixed) + largest.astype(flat.dtype)[None]
    # scores that are equal but for rounding count as equal
    rounding = 100 * jnp.finfo(flat.dtype).eps
    count = jnp.sum(others <= new[:, None] + rounding, axis=1)
    accepted = (count >= given["need"]) & jnp.isfinite(new)
    ess = 1 / jnp.sum(weights**2, axis=0)
    merit = jnp.where(jnp.isfinite(new), new, -jnp.inf)
    return Judged(accepted.reshape(shape), merit.reshape(shape), ess.reshape(shape))


def _judge_classes(conditionals: Conditional, given: dict) -> tuple[Array, Array]:
    """Return which classes belong to the set of each row, and the effective draws."""
    probs = jax.vmap(label_probabilities)(conditionals.distribution)
    found = _judge(jnp.moveaxis(jnp.log(probs), -1, 1), given)
    top = found.merit == found.merit.max(0)[None]
    accepted = found.accepted | (top & ~found.accepted.any(0)[None])
    ess = jnp.where(accepted, found.ess, jnp.inf).min(0)
    return jnp.moveaxis(accepted, 0, -1), ess


def _thinned(stream: Stream, draws: np.ndarray) -> Stream:
    """Return the stream with some of its draws, and with small chunks of rows."""
    kept = {name: value[draws] for name, value in stream.draws.items()}
    return dataclasses.replace(stream, draws=kept, batch_size=BATCH)


def _only(stream: Stream, rows: np.ndarray) -> Stream:
    """Return the stream of some rows."""
    args = tuple(np.asarray(arg)[rows] for arg in stream.args)
    return dataclasses.replace(stream, args=args, num_rows=len(rows))


def _warn_few(ess: np.ndarray) -> None:
    """Warn where sets rest on few draws."""
    few = int(np.sum(ess < FEWEST))
    if few:
        warnings.warn(
            f"{few} of {ess.size} sets rest on fewer than {FEWEST} effective draws (the fewest are "
            f"{np.min(ess):.0f}): their ends are Monte Carlo guesses. Take more draws, or give "
            "held-out rows: post.conformal(level, X, y).",
            TrustWarning,
            stacklevel=4,
        )


def ends_in_units(ends: np.ndarray, best: np.ndarray, base: AbstractPrediction) -> np.ndarray:
    """Return the ends of sets in the units of y; whole numbers of counts.

    Args:
        ends: the boundaries in the model's units, shape (rows, ..., ends), NaN where there are
            fewer.
        best: the best candidates, which are the sets where nothing is accepted.
        base: the prediction, which knows the units.
    """
    ends = np.moveaxis(np.array(ends, np.float64), -1, 0)
    empty = np.isnan(ends).all(0)
    ends[0] = np.where(empty, best, ends[0])
    ends[1] = np.where(empty, best, ends[1])
    used = max(2, int(np.max(np.sum(~np.isnan(ends), axis=0))))
    ends = ends[: used + used % 2]
    if base.target.kind == "count":
        ends[0::2], ends[1::2] = np.ceil(ends[0::2]), np.floor(ends[1::2])
        ends[0] = np.where(empty, np.round(best), np.maximum(ends[0], 0))
        ends[1] = np.where(empty, np.round(best), ends[1])
    return base.target.in_units(ends)


def _join(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Join the sets of some rows with those of others, which may have fewer ends."""
    most = max(len(part) for part in parts) if axis else 0
    padded = [
        np.pad(part, [(0, most - len(part))] + [(0, 0)] * (part.ndim - 1), constant_values=np.nan)
        if axis
        else part
        for part in parts
    ]
    return np.concatenate(padded, axis=axis)
