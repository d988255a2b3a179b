"""What is known of discrete latent sites: the probabilities of their values, and draws."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesdl.data.validation import ModelError
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.core import AbstractPosterior, draws_shape, latent_draws
from bayesdl.posterior.summed import draw_summed, mean_probabilities, values_of
from inference.core.keys import named_key
from inference.core.typing import StoredArrays

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DiscreteSites:
    """The posterior of the discrete latent sites of a program at its training data.

    Attributes:
        probabilities: p(s = k | y) by site, shape (*site shape, values).
        samples: draws by site, shape (chain, draw, *site shape).
        values: the values that each site can have, shape (values,), in the order of probabilities.
        errors: Monte Carlo standard errors of probabilities that are shares of draws; empty where
            they are computed by Bayes' rule for each draw of the other sites, and averaged.
    """

    probabilities: StoredArrays
    samples: StoredArrays
    values: StoredArrays
    errors: StoredArrays

    def to_pandas(self) -> pd.DataFrame:
        """Return a table of probabilities: a row per entry of a site, a column per value."""
        import pandas as pd

        rows = {}
        for name, table in self.probabilities.items():
            for place in np.ndindex(*table.shape[:-1]):
                label = f"{name}[{','.join(map(str, place))}]" if place else name
                rows[label] = dict(zip(self.values[name].tolist(), table[place], strict=True))
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        def describe(name: str) -> str:
            shape, count = self.samples[name].shape[2:], len(self.values[name])
            return f"{name}: shape {shape}, {count} values"

        how = "shares of draws" if self.errors else "Bayes' rule at each draw, averaged"
        return f"DiscreteSites({'; '.join(map(describe, self.probabilities))}; {how})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.to_pandas().head(20).to_html()


def discrete(posterior: AbstractPosterior) -> DiscreteSites:
    """Return what is known of the discrete latent sites; see `Posterior.discrete`.

    Raises:
        ModelError: where the program has none.
    """
    problem = posterior.raw.restore_problem(posterior.problem)
    if not problem.discrete_latents:
        raise ModelError(f"{posterior!r} has no discrete latent sites.")
    samples = posterior.samples
    drawn = {name: samples[name] for name in problem.discrete_latents if name in samples}
    values = {name: np.unique(draws) for name, draws in drawn.items()}
    shares = {
        name: np.stack([(draws == value).mean((0, 1)) for value in values[name]], -1)
        for name, draws in drawn.items()
    }
    errors = {name: _errors(draws, values[name]) for name, draws in drawn.items()}
    if len(drawn) == len(problem.discrete_latents):
        return DiscreteSites(shares, drawn, values, errors)
    latents = {name: latent_draws(posterior)[name] for name in problem.latents}
    with precision_scope(posterior.model):
        exact = mean_probabilities(problem, latents)
        # the key of `predict`, so that both speak of the same draws
        key = named_key(posterior._draws_key, "discrete sites")
        found = draw_summed(problem, latents, key)
        known = values_of(problem, latents)
    shape = draws_shape(posterior)
    samples = {name: draw.reshape(*shape, *draw.shape[1:]) for name, draw in found.items()}
    return DiscreteSites(shares | exact, drawn | samples, values | known, errors)


def _errors(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the standard errors of the shares of values, by their effective sample sizes."""
    from arviz_stats.base.array import array_stats

    statistics: Any = array_stats

    def error(hits: np.ndarray) -> float:
        if np.ptp(hits) == 0:
            return 0.0
        size = float(statistics.ess(hits, chain_axis=0, draw_axis=1, method="mean"))
        return float(hits.std() / np.sqrt(size))

    flat = draws.reshape(*draws.shape[:2], -1)
    table = [
        [error((flat[..., i] == v).astype(float)) for v in values] for i in range(flat.shape[2])
    ]
    return np.array(table).reshape(*draws.shape[2:], len(values))
