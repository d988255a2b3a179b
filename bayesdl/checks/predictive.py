"""Posterior predictive checks: whether the model makes data like those it was fitted to.

A replicated data set y_rep has the rows of the observed one. All its rows follow one draw z of the
posterior,

    z ~ p(z | y),    y_rep ~ p(y | z),    p = P(T(y_rep) >= T(y) | y)

for a statistic T (Rubin 1984; Gelman, Meng and Stern 1996). As the data have been used twice, p
stays nearer to 1/2 than a uniform variable would: an extreme p speaks against the model, a middling
one says little (Bayarri and Berger 2000).
"""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import numpy as np
from jaxtyping import Real, Shaped

from bayesdl.checks.densities import observed
from bayesdl.checks.statistics import (
    Statistic,
    StatisticsLike,
    mean_and_interval,
    resolve_statistics,
)
from bayesdl.data.target import Target
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.pictures import draw
from bayesdl.typing import AxesLike, DataFrame, Integer

EXTREME = 0.05
# replicated data sets that are kept for pictures
KEPT = 200


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PredictiveCheck:
    """Observed statistics against those of replicated data sets.

    Attributes:
        ok: whether no statistic is extreme (two-sided p at least 0.05).
        verdict: one sentence per finding.
        table: a row per statistic: the observed value, mean and 90 % interval of the replications,
            and p = P(T(y_rep) >= T(y)).
        target: what was predicted.
        observed: the data, shape (rows, ...), in the units of y; labels of classes.
        replicated: some replicated data sets, shape (sets, rows, ...).
    """

    ok: bool
    verdict: tuple[str, ...]
    table: DataFrame
    target: Target
    observed: Shaped[np.ndarray, "*y"]
    replicated: Shaped[np.ndarray, "sets *y"]

    def plot(self, ax: AxesLike = None) -> Any:
        """Draw observed against replicated data; see `bayesdl.plots.predictive_check`."""
        return draw("predictive_check", self, ax)

    def __repr__(self) -> str:
        lines = [f"- {line}" for line in self.verdict]
        return "\n".join([self.table.to_string(float_format="{:.4g}".format), *lines])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in self.verdict)
        return self.table.to_html(float_format="{:.4g}".format) + f"<ul>{items}</ul>"


def check_predictive(
    posterior: AbstractPosterior,
    statistics: StatisticsLike = None,
    num_samples: Integer = 1000,
    seed: Integer | None = None,
) -> PredictiveCheck:
    """Compare statistics of the training data with those of replicated data sets.

    Args:
        posterior: the posterior; draws of an approximation are taken as they are.
        statistics: names, functions of a target array, a list of these, or functions by name. By
            default mean, sd, min, max and the 5, 50 and 95 % quantiles; of counts also the share
            of zeros; of classes the share of each. Any percentage is the name of a quantile.
        num_samples: the number of replicated data sets; beyond the number of draws, draws are
            used again.
        seed: the seed of the replications; by default that of the fit.

    Raises:
        ValueError: for unknown statistics, or a posterior that cannot replicate whole data sets.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 30)
        >>> model, engine = bdl.BNN(hidden=()), bdl.Laplace()
        >>> post = bdl.fit(model, x[:, None], x + np.sin(40 * x), engine=engine, progress=False)
        >>> check_predictive(post, ["sd", "99%", np.ptp]).table.index.tolist()
        ['sd', '99%', 'ptp']
    """
    if concern := posterior.raw.replication_concern():
        raise ValueError(f"{posterior!r} {concern}.")
    prediction = posterior.predict(seed=seed)
    if not prediction.stream.draws and not prediction.stream.rows_correlated:
        raise ValueError(
            f"{posterior!r} predicts rows one by one, and a check needs data sets whose rows "
            "follow one draw: fit with bdl.NUTS(), a GP also with bdl.ExactGP()."
        )
    target = prediction.target
    functions = resolve_statistics(statistics, target)
    y = observed_targets(posterior)
    replicated = prediction.sample(num_samples)
    table = _compare_statistics(functions, y, replicated)
    extreme = _extreme_statistics(table, num_samples)
    verdict = extreme or [_nothing_extreme(table)]
    return PredictiveCheck(not extreme, tuple(verdict), table, target, y, replicated[:KEPT])


def observed_targets(posterior: AbstractPosterior) -> np.ndarray:
    """Return the training targets in the units of y, labels where they are classes."""
    target = posterior.model.target(posterior.schema, posterior.problem)
    values = observed(posterior)
    y = next(iter(values.values())) if len(values) == 1 else values[target.names[0]]
    return y if target.classes is None else np.array(target.classes)[y.astype(int)]


def _compare_statistics(
    functions: dict[str, Statistic], y: np.ndarray, replicated: Shaped[np.ndarray, "sets *y"]
) -> DataFrame:
    """Return the table of a `PredictiveCheck`."""
    import pandas as pd

    actual = np.array([function(y[None])[0] for function in functions.values()], dtype=np.float64)
    columns = [function(replicated) for function in functions.values()]
    values = np.stack(columns, axis=1).astype(np.float64)
    mean, low, high = mean_and_interval(values)
    parts = {"observed": actual, "mean": mean, "5%": low, "95%": high}
    shares = {"p": (values >= actual).mean(0), "p two-sided": _two_sided(values, actual)}
    return pd.DataFrame(parts | shares, index=pd.Index(functions, name="statistic"))


def _two_sided(
    values: Real[np.ndarray, "sets statistics"], actual: Real[np.ndarray, "statistics"]
) -> np.ndarray:
    """Compute 2 min(P(T >= t), P(T <= t)), at most 1.

    Values that are tied with the observed one count on both sides.
    """
    return np.minimum(1.0, 2 * np.minimum((values >= actual).mean(0), (values <= actual).mean(0)))


def _extreme_statistics(table: DataFrame, num_samples: Integer) -> list[str]:
    """Return a sentence for each extreme statistic."""
    found = []
    for name, values in table[~(table["p two-sided"] >= EXTREME)].iterrows():
        row: dict[str, float] = values.to_dict()
        p, extreme = row["p"], row["p two-sided"]
        side, share = ("above", p) if p < 0.5 else ("below", extreme / 2)
        reached = f"{100 * share:.2g} %" if share > 0 else f"none of {num_samples}"
        spoken = f"{name} quantile" if str(name).endswith("%") else name
        found.append(
            f"The observed {spoken} is {row['observed']:.4g}, {side} what the model makes: "
            f"{row['5%']:.4g} to {row['95%']:.4g} in 90 % of replicated data sets, and {reached} "
            "go as far."
        )
    return found


def _nothing_extreme(table: DataFrame) -> str:
    """Say that no statistic is extreme."""
    smallest = table["p two-sided"].min()
    return f"No statistic is extreme: the smallest two-sided p is {smallest:.2g}."
