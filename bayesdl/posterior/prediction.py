"""Predictive distributions p(y | x, data): the mixture over posterior draws, in the user's units.

If the model saw (y - m) / s, means are m + s times the model's, and log densities lose log s.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import warnings
from typing import Any

import numpy as np
from jaxtyping import Real

from bayesdl.data.target import Target
from bayesdl.posterior import streaming as stream

CHUNK = 1024  # rows simulated at once


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractPrediction(abc.ABC):
    """A predictive distribution at new rows; nothing is computed before it is asked for.

    Attributes:
        stream: evaluates statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: of simulated targets.
    """

    stream: stream.Stream
    target: Target
    seed: int

    @abc.abstractmethod
    def to_pandas(self, level: float = 0.9) -> Any:
        """A DataFrame with a row per new row."""

    @abc.abstractmethod
    def sample(self, num_samples: int = 1000) -> np.ndarray:
        """Simulated targets, shape (num_samples, rows, ...)."""

    def log_prob(self, y: Any) -> np.ndarray:
        """Log p(y | x, data) per row, shape (rows,); natural logarithm, density in the units of y."""
        values = self.stream.map(stream.log_density, self._read(y))
        return values.astype(np.float64) - np.log(self.target.scale).sum()

    def check_rows(self, y: Any) -> None:
        """Refuses targets that are not one per predicted row.

        Raises:
            ValueError: with both numbers.
        """
        rows = self.stream.num_rows
        if rows is not None and len(y) != rows:
            raise ValueError(f"y has {len(y)} targets for {rows} predicted rows.")

    def _read(self, y: Any) -> np.ndarray:
        """Targets as the model sees them; those of a program as they are."""
        self.check_rows(y)
        return np.asarray(y) if self.stream.num_rows is None else self.target.read(y)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(target={', '.join(self.target.names)!r}, rows={self.stream.num_rows or 'all at once'})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.to_pandas().head(10)._repr_html_()

    def replicates(self) -> np.ndarray:
        """One simulated data set for each posterior draw, in their order, in the units of y; classes as their indices."""
        num_draws = len(next(iter(self.stream.draws.values())))
        simulated = self.stream.functions if self.stream.rows_correlated else self._simulated
        return self.target.in_units(simulated(num_draws, shuffle=False))

    def _simulated(self, num_samples: int, shuffle: bool = True) -> np.ndarray:
        """Simulated targets in the model's units; each row follows its own law, rows share the draw behind them."""
        rows = np.arange(self.stream.num_rows or 1)
        seeds = np.stack([np.full(len(rows), self.seed), rows], axis=1).astype(np.int32)
        fixed = dataclasses.replace(
            self.stream, batch_size=CHUNK
        )  # so that samples do not depend on the batch size asked for
        return fixed.map(stream.simulator(num_samples, shuffle), seeds, axis=1)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction(AbstractPrediction):
    """A predictive distribution of numbers: real targets or counts.

    All arrays have shape (rows,), or (rows, targets) for several targets, in the units of y.
    """

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, ...]:
        """Mean, variance, its aleatoric and its epistemic part, in the model's units."""
        mean, variance, aleatoric, epistemic = (
            part.astype(np.float64) for part in self.stream.map(stream.moments)
        )
        concern = self.stream.predictive.mean_concern(mean, epistemic)
        if concern:
            from bayesdl.checks.convergence import TrustWarning

            warnings.warn(f"Means that cannot be trusted: {concern}.", TrustWarning, stacklevel=4)
        return mean, variance, aleatoric, epistemic

    @property
    def mean(self) -> np.ndarray:
        """E[y | x, data]."""
        return self._in_units(self._moments[0])

    @property
    def std(self) -> np.ndarray:
        """Sd of y: the root of aleatoric^2 + epistemic^2."""
        return np.asarray(np.sqrt(self._moments[1]) * self._unit)

    @property
    def aleatoric(self) -> np.ndarray:
        """The part of the sd that stays when the function is known: sqrt(E[Var(y | x, z)]); NaN for a `PFN`."""
        return np.asarray(np.sqrt(self._moments[2]) * self._unit)

    @property
    def epistemic(self) -> np.ndarray:
        """The part of the sd that more data would remove: sqrt(Var(E[y | x, z])); NaN for a `PFN`, which does not know it."""
        return np.asarray(np.sqrt(self._moments[3]) * self._unit)

    def quantile(self, q: Any) -> np.ndarray:
        """Quantiles of the mixture, shape (rows, ...) for a number q, otherwise (len(q), rows, ...).

        Exact up to bisection where the likelihood has a cdf, otherwise from simulated targets.

        Raises:
            ValueError: for levels outside (0, 1).
        """
        levels = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if levels.ndim > 1 or np.any((levels <= 0) | (levels >= 1)):
            raise ValueError(
                f"quantile(q={q!r}): expected a level, or a list of levels, between 0 and 1."
            )
        try:
            values = self.stream.map(stream.quantiles, levels, rowwise=False, axis=1)
        except NotImplementedError:
            values = np.quantile(self._simulated(4000), levels, axis=0)
        values = self._in_units(values.astype(np.float64))
        return values if np.ndim(q) else np.asarray(values[0])  # of a latent site it is one number

    def interval(self, level: float = 0.9) -> np.ndarray:
        """The central interval with probability `level`: lower and upper bounds, shape (2, rows, ...)."""
        if not 0 < level < 1:
            raise ValueError(
                f"interval(level={level!r}): expected a probability between 0 and 1, e.g. 0.9."
            )
        return self.quantile([(1 - level) / 2, (1 + level) / 2])

    def cdf(self, y: Any) -> np.ndarray:
        """P(Y <= y | x, data) per row and target."""
        return self.stream.map(stream.mixture_cdf, self._read(y)).astype(np.float64)

    def crps(self, y: Any) -> np.ndarray:
        """The continuous ranked probability score E|Y - y| - E|Y - Y'| / 2 per row and target, in the units of y.

        Exact for a `PFN`, otherwise the fair estimate from simulated targets (Gneiting and Raftery 2007).
        """
        try:
            return np.asarray(
                self.stream.map(stream.crps, self._read(y)).astype(np.float64) * self._unit
            )
        except NotImplementedError:
            return crps(self.marginal_samples(), np.asarray(y, np.float64).reshape(self.mean.shape))

    def sample(self, num_samples: int = 1000) -> np.ndarray:
        """Simulated targets, shape (num_samples, rows, ...).

        Each sample is one draw of the function at all rows, and noise. (GPyTorch's processes are the exception: their
        rows are drawn one by one.)
        """
        check_count(num_samples)
        values = (
            self.stream.functions(num_samples)
            if self.stream.rows_correlated
            else self._simulated(num_samples)
        )
        return self._in_units(values.astype(np.float64))

    def marginal_samples(self, num_samples: int = 1000) -> np.ndarray:
        """Simulated targets that are right row by row, which is cheaper where rows vary together."""
        check_count(num_samples)
        return self._in_units(self._simulated(num_samples).astype(np.float64))

    def to_pandas(self, level: float = 0.9) -> Any:
        """Columns mean, std, lower and upper bound of the interval, aleatoric and epistemic sd."""
        import pandas as pd

        low, high = self.interval(level)
        tail = f"{50 * (1 - level):.4g}%", f"{50 * (1 + level):.4g}%"
        parts = dict(
            zip(
                ("mean", "std", *tail, "aleatoric", "epistemic"),
                (self.mean, self.std, low, high, self.aleatoric, self.epistemic),
                strict=True,
            )
        )
        if self.mean.ndim != 2 or self.stream.num_rows is None:
            index = (
                pd.MultiIndex.from_tuples(list(np.ndindex(self.mean.shape)))
                if self.mean.ndim > 1
                else None
            )
            return pd.DataFrame({k: np.ravel(v) for k, v in parts.items()}, index=index)
        return pd.DataFrame(
            {f"{t}.{k}": v[:, j] for j, t in enumerate(self.target.names) for k, v in parts.items()}
        )

    def plot(self, x: Any = None, ax: Any = None) -> Any:
        """Mean with 50 and 90 % bands against x (or the row number); returns the axes."""
        from bayesdl import plots

        return plots.prediction(self, x, ax)

    @property
    def _unit(self) -> Any:
        return self.target.scale[0] if len(self.target.scale) == 1 else np.array(self.target.scale)

    def _in_units(self, values: np.ndarray) -> np.ndarray:
        return self.target.in_units(values)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClassPrediction(AbstractPrediction):
    """A predictive distribution of class labels."""

    @functools.cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        probs, aleatoric, epistemic = (
            part.astype(np.float64) for part in self.stream.map(stream.class_probabilities)
        )
        return probs / probs.sum(-1, keepdims=True), aleatoric, epistemic

    def __getattr__(self, name: str) -> Any:
        if name in ("mean", "std", "quantile", "interval", "cdf"):
            raise AttributeError(
                f"Class labels have no {name}: use probs, label, aleatoric, epistemic, sample or log_prob."
            )
        raise AttributeError(f"ClassPrediction has no attribute {name!r}.")

    @property
    def classes(self) -> np.ndarray:
        """The labels, in the order of the columns of `probs`."""
        return np.array(self.target.classes)

    @property
    def probs(self) -> np.ndarray:
        """P(y = class | x, data), shape (rows, classes)."""
        return self._parts[0]

    @property
    def label(self) -> np.ndarray:
        """The most probable class per row."""
        return self.classes[self.probs.argmax(-1)]

    @property
    def aleatoric(self) -> np.ndarray:
        """Expected entropy E[H(y | x, z)], in nats: doubt that stays when the function is known."""
        return self._parts[1]

    @property
    def epistemic(self) -> np.ndarray:
        """Mutual information of label and draw, in nats: doubt that more data would remove (Houlsby et al. 2011)."""
        return self._parts[2]

    def sample(self, num_samples: int = 1000) -> np.ndarray:
        """Simulated labels, shape (num_samples, rows)."""
        check_count(num_samples)
        values = (
            self.stream.functions(num_samples)
            if self.stream.rows_correlated
            else self._simulated(num_samples)
        )
        return self.classes[values.astype(int)]

    def to_pandas(self, level: float = 0.9) -> Any:
        """Columns: the most probable class, the probability of each, aleatoric and epistemic entropy in nats."""
        import pandas as pd

        probs = {f"P({label})": self.probs[:, k] for k, label in enumerate(self.classes)}
        return pd.DataFrame(
            {"class": self.label, **probs, "aleatoric": self.aleatoric, "epistemic": self.epistemic}
        )

    def plot(self, x: Any = None, ax: Any = None) -> Any:
        """Class probabilities against x (or the row number); returns the axes."""
        from bayesdl import plots

        return plots.class_prediction(self, x, ax)


def check_count(num_samples: Any) -> None:
    """Refuses anything but a positive whole number."""
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(
            f"sample(num_samples={num_samples!r}): expected a whole number of at least 1."
        )


def crps(
    samples: Real[np.ndarray, "samples *y"], y: Real[np.ndarray, "*y"]
) -> Real[np.ndarray, "*y"]:
    """The fair (unbiased) sample estimate of the CRPS; samples have shape (samples, *y.shape)."""
    n = len(samples)
    ordered = np.sort(samples, axis=0)
    weights = (2 * np.arange(1, n + 1) - n - 1).reshape((-1,) + (1,) * y.ndim)
    spread = 2 * np.sum(weights * ordered, axis=0) / (n * (n - 1))  # E|Y - Y'| without the diagonal
    return np.mean(np.abs(samples - y), axis=0) - spread / 2
