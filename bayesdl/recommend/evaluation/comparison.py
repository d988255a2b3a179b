"""Comparison of recommenders on held-out users: means with standard errors, paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from bayesdl.data.validation import DataError
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.metrics import ndcg, recall, standard_error
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.refinement import Refinement
from bayesdl.typing import DataFrame

METRICS = (("ndcg", 100), ("recall", 20), ("recall", 50))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of each recommender on the same users.

    Attributes:
        values: the metrics by recommender, then by name such as "ndcg@100": one number for each
            user with held-out items, shape (users,).
    """

    values: Mapping[str, Mapping[str, np.ndarray]]

    def table(self) -> DataFrame:
        """Return means, standard errors and numbers of users, a row for each recommender."""
        import pandas as pd

        rows: dict[str, dict[str, float]] = {}
        for name, metrics in self.values.items():
            row: dict[str, float] = {}
            for metric, values in metrics.items():
                row[metric] = values.mean()
                row[f"{metric} se"] = standard_error(values)
            rows[name] = row | {"users": len(next(iter(metrics.values())))}
        return pd.DataFrame.from_dict(rows, orient="index")

    def paired(self, first: str, second: str, metric: str = "ndcg@100") -> dict[str, float]:
        """Compare two recommenders user by user.

        Args:
            first: the name of a recommender.
            second: the name of another one.
            metric: the name of the metric.

        Returns:
            The mean "difference" first - second over users, its standard error "se", and the
            p-value "p" of a paired t-test.

        Raises:
            ValueError: for names or a metric that are not here.
        """
        for name in (first, second):
            if name not in self.values:
                raise ValueError(f"paired({name!r}): expected two of {', '.join(self.values)}.")
        if metric not in self.values[first]:
            raise ValueError(
                f"paired(metric={metric!r}): expected one of {', '.join(self.values[first])}."
            )
        difference = self.values[first][metric] - self.values[second][metric]
        same = not np.any(difference)
        test: Any = stats.ttest_1samp(difference, 0.0)
        p = 1.0 if same else float(test.pvalue)
        return {"difference": float(difference.mean()), "se": standard_error(difference), "p": p}

    def __repr__(self) -> str:
        return self.table().round(4).to_string()


def evaluate(
    models: object,
    held: object,
    *,
    refine_steps: int = 0,
    likelihood_power: float | int | None = None,
) -> Evaluation:
    """Return NDCG@100, Recall@20 and Recall@50 of held-out items.

    Items that were shown are left out of the ranking.

    Args:
        models: a dictionary of fitted recommenders by name, or one recommender.
        held: users to judge on, a `HeldOut` such as split.test; those without held-out items are
            left out.
        refine_steps: see `recommend`; used by recommenders that have posteriors of users to refine.
        likelihood_power: see `recommend`; used by the same recommenders.

    Raises:
        TypeError: for other kinds of arguments.
        DataError: where nothing is held out, or the items are not those of the fit.

    Example:
        >>> import numpy as np
        >>> from bayesdl.recommend import HeldOut, Popularity
        >>> model = Popularity().fit(np.array([[1, 1, 0], [0, 1, 0]]))
        >>> found = evaluate(model, HeldOut(np.array([[0, 1, 0]]), np.array([[1, 0, 0]])))
        >>> found.values["Popularity"]["ndcg@100"]
        array([1.])
    """
    if not isinstance(held, HeldOut):
        raise TypeError(
            f"evaluate(models, held): held is a {type(held).__name__}, expected HeldOut, such as "
            "split.test."
        )
    by_name: Mapping[str, Any] = (
        models if isinstance(models, Mapping) else {type(models).__name__: models}
    )
    for model in by_name.values():
        if not isinstance(model, AbstractRecommender):
            raise TypeError(
                f"evaluate(models, held): models has a {type(model).__name__}, expected "
                "recommenders by name, or one."
            )
    return Evaluation(
        {
            name: _user_metrics(model, held, refine_steps, likelihood_power)
            for name, model in by_name.items()
        }
    )


def _user_metrics(
    model: AbstractRecommender,
    held: HeldOut,
    refine_steps: int,
    likelihood_power: float | int | None,
) -> dict[str, np.ndarray]:
    """Return each metric of one recommender for users with held-out items, by name."""
    fold_in, held_out = model.check_held_out(held)
    refinement = model.refinement(refine_steps, likelihood_power) if model.refines else Refinement()
    sizes = np.diff(held_out.indptr)
    kept = sizes > 0
    if not kept.any():
        raise DataError(
            "evaluate: no user has held-out items to be found; see `share` and `min_items` of "
            "strong_split."
        )
    hit = model.hits_by_rank(fold_in, held_out, max(k for _, k in METRICS), refinement)
    functions = {"ndcg": ndcg, "recall": recall}
    return {f"{name}@{k}": functions[name](hit[kept], sizes[kept], k) for name, k in METRICS}
