"""How the functions of a prior differ from those of a target, at each point and over all points.

The measures are those that `bayesdl.functional.report` lists.
"""

from __future__ import annotations

import jax
import numpy as np

from bayesdl.functional.draws import draw_functions
from bayesdl.functional.losses import pairwise_distances
from bayesdl.functional.problem import MatchingProblem
from bayesdl.functional.report import PriorReport
from bayesdl.priors.base import AbstractPrior, count_layers

# quantiles of the values at each point
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
# directions of the sliced distance, permutations of the test, and functions that it compares
DIRECTIONS, PERMUTATIONS, TESTED = 500, 199, 500


def compare_functions(
    problem: MatchingProblem, prior: AbstractPrior, points: np.ndarray, num: int, seed: int
) -> PriorReport:
    """Compare the functions of a prior and of the target.

    Args:
        problem: the network, its inputs and the target.
        prior: the prior over the network's weights.
        points: the points at which functions are compared, as the network sees them.
        num: the number of functions of each side.
        seed: the seed of all draws.
    """
    from scipy import stats

    prior.check(count_layers(problem.arrays), problem.net.activation)
    f = draw_functions(problem.net, problem.arrays, prior, points, num, seed)
    targets = problem.target.draw(jax.random.key(seed), points[None], 2 * num)[0]
    g, other = targets.reshape(2, num, -1)
    rng = np.random.default_rng(seed)
    shift, scale = np.array(problem.columns.shift), np.array(problem.columns.scale)
    return PriorReport(
        points=points * scale + shift,
        network=f,
        target=g,
        quantiles=np.stack([np.quantile(values, LEVELS, axis=0) for values in (f, g)]),
        sd_ratio=f.std(0) / g.std(0),
        marginal_w1=np.abs(np.sort(f, 0) - np.sort(g, 0)).mean(0),
        correlation_error=_correlation_error(f, g),
        kurtosis=(float(stats.kurtosis(f).mean()), float(stats.kurtosis(g).mean())),
        sliced_w1=_sliced_w1(f, g, rng),
        floor=_sliced_w1(other, g, rng),
        w1_bound=w1_bound(f, g),
        p_value=permutation_p_value(f[:TESTED], g[:TESTED], rng),
        jitter=problem.target.jitter,
    )


def _correlation_error(f: np.ndarray, g: np.ndarray) -> float:
    """Return the root mean square difference of the two correlation matrices.

    Values that do not vary have no correlation and are left out.
    """
    varies = (f.std(0) > 0) & (g.std(0) > 0)
    if not varies.any():
        return float("nan")
    one, other = (np.atleast_2d(np.corrcoef(part[:, varies].T)) for part in (f, g))
    return float(np.sqrt(np.mean((one - other) ** 2)))


def w1_bound(f: np.ndarray, g: np.ndarray) -> float:
    """Return a lower bound of the 1-Wasserstein distance: the norm has a slope of at most one."""
    ours, theirs = np.linalg.norm(f, axis=1), np.linalg.norm(g, axis=1)
    error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
    return float(max(0.0, abs(ours.mean() - theirs.mean()) - 3 * error))


def _sliced_w1(f: np.ndarray, g: np.ndarray, rng: np.random.Generator) -> float:
    """Return the sliced 1-Wasserstein distance of two sets of equally many functions."""
    directions = rng.normal(size=(f.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return float(np.abs(np.sort(f @ directions, 0) - np.sort(g @ directions, 0)).mean())


def permutation_p_value(f: np.ndarray, g: np.ndarray, rng: np.random.Generator) -> float:
    """Return the p-value of the energy test: how often shuffled labels give as large a distance."""
    pooled = np.concatenate([f, g])
    D = np.asarray(pairwise_distances(jax.numpy.asarray(pooled), jax.numpy.asarray(pooled)), float)
    labels = np.repeat([1.0, -1.0], len(f)) / len(f)
    shuffled = np.stack([labels, *(rng.permutation(labels) for _ in range(PERMUTATIONS))])
    energies = -np.einsum("pi,ij,pj->p", shuffled, D, shuffled, optimize=True)
    return float(np.mean(energies >= energies[0] - 1e-12))
