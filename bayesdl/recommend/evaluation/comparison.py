"""Comparing recommenders on held-out users: means with standard errors, and paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.codes import Refinement
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.metrics import ndcg, recall, standard_error
from bayesdl.recommend.evaluation.split import HeldOut

METRICS = (("ndcg", 100), ("recall", 20), ("recall", 50))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of each recommender on the same users.

    Attributes:
        values: by recommender, then by metric such as "ndcg@100", one for each user with held-out items.
    """

    values: Mapping[str, Mapping[str, np.ndarray]]

    def table(self) -> Any:
        """Means and standard errors, one row for each recommender, and the number of users that are behind them."""
        import pandas as pd

        rows = {
            name: {
                column: value
                for metric, v in of.items()
                for column, value in ((metric, v.mean()), (f"{metric} se", standard_error(v)))
            }
            | {"users": len(next(iter(of.values())))}
            for name, of in self.values.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def paired(self, first: str, second: str, metric: str = "ndcg@100") -> dict[str, float]:
        """The mean difference first - second over users, its standard error, and the p-value of a paired t-test.

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
    models: Any,
    held: Any,
    *,
    refine_steps: int = 0,
    likelihood_power: Any = None,
) -> Evaluation:
    """NDCG@100, Recall@20 and Recall@50 of held-out items, those that were shown left out of the ranking.

    Args:
        models: a dictionary of fitted recommenders by name, or one.
        held: users to judge on; those without held-out items are left out.
        refine_steps: as in `recommend`, of those that have posteriors of users to refine.
        likelihood_power: as in `recommend`, likewise.

    Raises:
        TypeError: for other kinds of arguments.
        DataError: where nothing is held out, or the items are not those of the fit.

    Example:
        >>> import numpy as np
        >>> from bayesdl.recommend import HeldOut, Popularity
        >>> model = Popularity().fit(np.array([[1, 1, 0], [0, 1, 0]]))
        >>> evaluate(model, HeldOut(np.array([[0, 1, 0]]), np.array([[1, 0, 0]]))).values["Popularity"]["ndcg@100"]
        array([1.])
    """
    if not isinstance(held, HeldOut):
        raise TypeError(
            f"evaluate(models, held): held is a {type(held).__name__}, expected HeldOut, such as split.test."
        )
    named = models if isinstance(models, Mapping) else {type(models).__name__: models}
    other = next(
        (model for model in named.values() if not isinstance(model, AbstractRecommender)), None
    )
    if other is not None:
        raise TypeError(
            f"evaluate(models, held): models has a {type(other).__name__}, expected recommenders by name, or one."
        )
    return Evaluation(
        {
            name: of_users(model, held, refine_steps, likelihood_power)
            for name, model in named.items()
        }
    )


def of_users(
    model: AbstractRecommender, held: HeldOut, refine_steps: int, likelihood_power: Any
) -> dict[str, np.ndarray]:
    """Each metric of one recommender."""
    fold_in, held_out = model.held(held)
    deepest = max(k for _, k in METRICS)
    how = model.how(refine_steps, likelihood_power) if model.refines else Refinement()
    sizes = np.diff(held_out.indptr)
    kept = sizes > 0
    if not kept.any():
        raise DataError(
            "evaluate: no user has held-out items to be found; see `share` and `min_items` of strong_split."
        )
    hit = model.hit_ranks(fold_in, held_out, deepest, how)
    functions = {"ndcg": ndcg, "recall": recall}
    return {f"{name}@{k}": functions[name](hit[kept], sizes[kept], k) for name, k in METRICS}
