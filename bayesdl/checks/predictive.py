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
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Real, Shaped

from bayesdl.checks import scores
from bayesdl.checks.densities import observed_values, seen_values, simulate_data_sets
from bayesdl.checks.statistics import (
    Statistic,
    StatisticsLike,
    mean_and_interval,
    resolve_statistics,
)
from bayesdl.data.target import Target
from bayesdl.data.validation import ModelError, check_call
from bayesdl.posterior.adjustment import plain
from bayesdl.posterior.core import AbstractPosterior, at_site
from bayesdl.posterior.pictures import draw
from bayesdl.typing import AxesLike, DataFrame, Integer, NewLevels, SiteLike
from inference.core.problem import Problem
from inference.wrappers import has_mask

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
    site: str | None = None,
) -> PredictiveCheck:
    """Compare statistics of the training data with those of replicated data sets.

    Args:
        posterior: the posterior; draws of an approximation are taken as they are. It is the model
            that is checked, without recalibration.
        statistics: names, functions of a target array, a list of these, or functions by name. By
            default mean, sd, min, max and the 5, 50 and 95 % quantiles; of counts also the share
            of zeros; of classes the share of each. Any percentage is the name of a quantile.
        num_samples: the number of replicated data sets; beyond the number of draws, draws are
            used again.
        seed: the seed of the replications; by default that of the fit.
        site: the observed site to check. By default all are checked: each by its own statistics,
            or as one data set where each is a single number.

    Raises:
        ValueError: for unknown statistics, or a posterior that cannot replicate whole data sets.
        ModelError: for a program that observes nothing.

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
    refuse_factors_only(posterior.problem, "check_predictive")
    one = at_site(posterior, site)
    seed = posterior.seed if seed is None else seed
    if one.model.predicts_one(one.problem):
        sets = [_one_site(one, num_samples, seed)]
    else:
        sets = _all_sites(one, num_samples, seed)
    tables = [
        _compare_statistics(resolve_statistics(statistics, data.target), data.y, data.replicated)
        for data in sets
    ]
    if len(sets) > 1:
        for data, table in zip(sets, tables, strict=True):
            table.index = table.index + f" of {data.target.names[0]}"
    return _judged(posterior, sets, tables, num_samples)


@dataclasses.dataclass(frozen=True)
class _DataSets:
    """Observed and replicated targets that no mask hides.

    Attributes:
        target: what they are.
        sites: the observed sites.
        y: the observed targets.
        replicated: replicated ones, shape (sets, *shape of y).
        hidden: the number of targets that a mask hides.
    """

    target: Target
    sites: tuple[str, ...]
    y: np.ndarray
    replicated: np.ndarray
    hidden: int = 0


def _one_site(posterior: AbstractPosterior, num_samples: int, seed: int) -> _DataSets:
    """Replicate the one site that the model predicts."""
    prediction = plain(posterior).predict(seed=seed)
    if not prediction.stream.draws and not prediction.stream.rows_correlated:
        raise ValueError(
            f"{posterior!r} predicts rows one by one, and a check needs data sets whose rows "
            "follow one draw: fit with bdl.NUTS(), a GP also with bdl.ExactGP()."
        )
    y, replicated = observed_targets(posterior), prediction.sample(num_samples)
    site = posterior.model.target_site(posterior.problem)
    return _visible(prediction.target, site, y, replicated, _seen(posterior, site))


def _all_sites(posterior: AbstractPosterior, num_samples: int, seed: int) -> list[_DataSets]:
    """Replicate all observed sites together; sites of one number each are one data set."""
    values = observed_values(posterior)
    replicated = simulate_data_sets(posterior, num_samples, seed)
    sets = []
    for site in posterior.problem.observed:
        model = posterior.model.at_site(posterior.problem, site)
        target = model.target(posterior.schema, posterior.problem)
        seen = _seen(posterior, site)
        sets.append(_visible(target, site, values[site], replicated[site], seen))
    single = all(values[site].ndim == 0 for site in posterior.problem.observed)
    if not single or len({data.target.kind for data in sets}) > 1:
        return [data for data in sets if data.y.size]
    target = dataclasses.replace(sets[0].target, names=(f"{sets[0].sites[0]}, ...",))
    y = np.concatenate([data.y for data in sets])
    joined = np.concatenate([data.replicated for data in sets], axis=1)
    hidden = sum(data.hidden for data in sets)
    return [_DataSets(target, tuple(posterior.problem.observed), y, joined, hidden)]


def _seen(posterior: AbstractPosterior, site: str) -> np.ndarray | None:
    """Return which entries of a site no mask hides; None for all."""
    if not has_mask(posterior.problem.trace[site]["fn"]):
        return None
    return seen_values(posterior)[site]


def _visible(
    target: Target, site: str, y: np.ndarray, replicated: np.ndarray, seen: np.ndarray | None
) -> _DataSets:
    """Return a site's data sets without the entries that a mask hides."""
    if y.ndim == 0:
        y, replicated = y.reshape(1), replicated.reshape(-1, 1)
        seen = None if seen is None else seen.reshape(1)
    if seen is None or seen.all():
        return _DataSets(target, (site,), y, replicated)
    return _DataSets(target, (site,), y[seen], replicated[:, seen], int(np.sum(~seen)))


def _judged(
    posterior: AbstractPosterior, sets: list[_DataSets], tables: list[DataFrame], num_samples: int
) -> PredictiveCheck:
    """Return the check of one or more sites."""
    import pandas as pd

    table = pd.concat(tables) if len(tables) > 1 else tables[0]
    extreme = _extreme_statistics(table, num_samples)
    sites = [site for data in sets for site in data.sites]
    notes = [
        *describe_hidden(sum(data.hidden for data in sets)),
        *describe_left_out(posterior.problem, sites, (), "replicated data sets"),
    ]
    verdict = (*(extreme or [_nothing_extreme(table)]), *notes)
    first = sets[0]
    return PredictiveCheck(
        not extreme, verdict, table, first.target, first.y, first.replicated[:KEPT]
    )


def score(
    posterior: AbstractPosterior,
    site: SiteLike,
    data: tuple,
    named: dict[str, Any],
    new_levels: NewLevels | None = None,
) -> scores.Scores:
    """Score the predictions for held-out data, without those that a mask hides.

    Args:
        posterior: the posterior.
        site: the observed site; None for the one there is.
        data: the held-out data as in `fit`.
        named: those given by name.
        new_levels: "sample" draws effects that were not in the training data.
    """
    named, site = posterior._settle(named, site)
    if site is not None:
        posterior, named = posterior._at(site, named)
    refuse_factors_only(posterior.problem, "score")
    model, problem = posterior.model, posterior.problem
    check_call("score", model.name, model.inputs_and_target, problem, *data, **named)
    args, kwargs, target = model.inputs_and_target(problem, *data, **named)
    prediction = posterior.predict(*args, new_levels=new_levels, **kwargs)
    predicted, seen = model.target_site(problem), None
    if has_mask(problem.trace[predicted]["fn"]):
        posed = model.problem(posterior.schema, *data, **named)
        seen = seen_values(dataclasses.replace(posterior, problem=posed))[predicted]
    found = scores.score(prediction, target, seen)
    hidden = 0 if seen is None else int(np.sum(~seen))
    found.notes = (
        *describe_hidden(hidden),
        *describe_left_out(problem, [predicted], (), "the scores"),
    )
    return found


def refuse_factors_only(problem: Problem, purpose: str) -> None:
    """Refuse a program that observes nothing.

    Raises:
        ModelError: naming its factors, where it has any.
    """
    if problem.observed:
        return
    names = ", ".join(map(repr, problem.factors))
    what = f"only has the factors {names}" if names else "observes nothing"
    raise ModelError(
        f"The program {what}, and {purpose} needs data: write the likelihood as "
        "numpyro.sample(name, distribution, obs=...) with an entry for each row. diagnose, summary "
        "and save work as it is."
    )


def describe_hidden(rows: int) -> list[str]:
    """Say how many rows are left out, as a mask hides them."""
    if not rows:
        return []
    verb, end = ("are", "s") if rows > 1 else ("is", "")
    return [f"{rows} row{end} that a mask hides {verb} left out."]


def describe_left_out(
    problem: Problem, sites: Sequence[str], factors: Sequence[str], what: str
) -> list[str]:
    """Say which observed sites and factors are not part of a number or of a data set.

    Args:
        problem: the problem.
        sites: the observed sites that are part of it.
        factors: the factors that are.
        what: the number or the data set, in words.
    """
    found = []
    if others := [name for name in problem.observed if name not in sites]:
        found.append(f"{subject('Site', others)} not part of {what}, as one site was asked for.")
    if outside := [name for name in problem.factors if name not in factors]:
        found.append(f"{subject('The factor', outside)} not part of {what}.")
    return found


def subject(kind: str, names: Sequence[str]) -> str:
    """Return the subject of a sentence, and its verb."""
    listed = " and ".join(map(repr, names))
    return f"{kind} {listed} is" if len(names) == 1 else f"{kind}s {listed} are"


def observed_targets(posterior: AbstractPosterior) -> np.ndarray:
    """Return the training targets in the units of y, labels where they are classes."""
    target = posterior.model.target(posterior.schema, posterior.problem)
    values = observed_values(posterior)
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
