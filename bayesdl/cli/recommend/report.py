"""The output of `bayesdl recommend`: what a fit found, and what was not used of a history."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from typing import Any

import numpy as np

from bayesdl.cli.output import print_result
from bayesdl.cli.recommend.events import Events, History
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.comparison import Evaluation
from bayesdl.recommend.evaluation.metrics import standard_error
from bayesdl.recommend.evaluation.split import MIN_ITEMS, HeldOut, Split


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What `bayesdl recommend fit` has done.

    Attributes:
        events: the events of the table.
        split: the training users, and the users who are held out.
        kept: the number of users with enough items.
        model: the fitted recommender.
        chosen: the numbers that the command chose for the number of users.
        evaluation: the scores on the test users, or None without such users.
    """

    events: Events
    split: Split
    kept: int
    model: AbstractRecommender
    chosen: dict[str, int]
    evaluation: Evaluation | None


def print_fit(options: Namespace, report: FitReport) -> int:
    """Print a report, and return the exit code."""
    events, split, evaluation = report.events, report.split, report.evaluation
    sizes = {
        "training": np.shape(split.train)[0],
        "validation": _num_users(split.validation),
        "test": _num_users(split.test),
    }
    left_out = len(np.unique(events.users)) - report.kept
    compared = None
    if evaluation is not None and len(evaluation.values) > 1:
        compared = evaluation.paired(options.model, "popularity")
    result = {
        "out": options.out,
        "model": repr(report.model),
        "chosen": report.chosen,
        "events": {
            "rows": len(events.users),
            "counted": int(events.counts.sum()),
            "of unseen items": split.dropped,
        },
        "users": sizes | {"with too few items": left_out},
        "items": len(split.items),
        "temperature": report.model.temperature_,
        "scores": None if evaluation is None else _scores_data(evaluation),
        "ndcg@100 above popularity": compared,
    }
    chosen = ", ".join(f"{name}={value}" for name, value in report.chosen.items())
    facts = report.model.describe_fit()
    lines = [
        f"model   {report.model!r}",
        *([f"        chosen here: {chosen}; --set changes them"] if chosen else []),
        f"events  {events.counts.sum()} of {len(events.users)} rows count: {events.what}",
        f"users   {sizes['training']} for training, {sizes['validation']} for validation, "
        f"{sizes['test']} for test; {left_out} left out, with fewer than {MIN_ITEMS} items",
        f"items   {len(split.items)}; {split.dropped} events of held-out users left out, with "
        "items unseen in training",
        *([f"found   {'; '.join(facts)}"] if facts else []),
        "",
        *_score_lines(evaluation, compared),
        "",
        f"saved   {options.out}",
    ]
    return print_result(options, result, lines)


def _num_users(held: HeldOut) -> int:
    """Return the number of held-out users."""
    return np.shape(held.fold_in)[0]


def _scores_data(evaluation: Evaluation) -> dict[str, Any]:
    """Return means and standard errors by recommender and metric."""
    return {
        name: {
            metric: {"mean": float(values.mean()), "se": standard_error(values)}
            for metric, values in metrics.items()
        }
        for name, metrics in evaluation.values.items()
    }


def _score_lines(evaluation: Evaluation | None, compared: dict[str, float] | None) -> list[str]:
    """Return the lines with the scores on the test users.

    Args:
        evaluation: the scores, or None without test users.
        compared: the paired difference with popularity, or None.
    """
    if evaluation is None:
        return ["no test users with held-out items: nothing was scored"]
    users = len(next(iter(next(iter(evaluation.values.values())).values())))
    lines = [
        f"held-out scores ({users} test users; mean +- standard error)",
        *_table_lines(evaluation),
    ]
    if compared:
        lines.append(
            f"ndcg@100 above popularity: {compared['difference']:.4f} +- {compared['se']:.4f}, "
            f"p = {compared['p']:.2g}"
        )
    return lines


def _table_lines(evaluation: Evaluation) -> list[str]:
    """Return a header and a line for each recommender."""
    metrics = list(next(iter(evaluation.values.values())))
    lines = [f"{'':12}" + "".join(f"{metric:>18}" for metric in metrics)]
    for name, values in evaluation.values.items():
        cells = [
            f"{values[metric].mean():.4f} +- {standard_error(values[metric]):.4f}"
            for metric in metrics
        ]
        lines.append(f"{name:12}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def history_notes(history: History, model: AbstractRecommender) -> list[str]:
    """Return in words what was not used of a history."""
    notes = []
    if history.below:
        notes.append(
            f"{history.below} of {history.events} rows do not count: their ratings are not above "
            "the threshold"
        )
    if history.unknown:
        notes.append(
            f"{history.unknown} of {history.events} rows dropped: their items were not in training"
        )
    if len(history.without):
        some = ", ".join(map(str, history.without[:5]))
        some += ", ..." if len(history.without) > 5 else ""
        consequence = "they get what suits any user"
        if model.needs_items:
            consequence = f"{type(model).__name__} knows nothing of them and takes its first items"
        notes.append(
            f"{len(history.without)} of {len(history.users)} users have an empty history, "
            f"{consequence}: {some}"
        )
    return notes
