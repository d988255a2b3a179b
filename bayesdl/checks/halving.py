"""Step halving: what the step size of a sampler without an accept step does to its answer.

Such samplers have a bias that vanishes with the step size. A second run with half the step size and
twice the steps per draw, so that both cover the same time, shows it: where the two agree within
Monte Carlo error the bias is too small to be seen, and otherwise the difference is most of it.

Warm-up shortens steps that are too long for the noise of minibatches
(`inference/mcmc/langevin.py`), to a length that does not depend on the step size that was asked
for. So it is the shortened step that is halved.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import ProgressLike
from inference.core.engine import UnsupportedError

# level of the test over all means and standard deviations
LEVEL = 0.01
# draws per chain, for a Monte Carlo error
LEAST_DRAWS = 4


@dataclasses.dataclass(frozen=True)
class StepHalving:
    """What changes when the step size is halved.

    Compared are the function values E[y | x, z] at training rows.

    Attributes:
        step_sizes: the step sizes of the two runs, as warm-up left them, the shortest over chains.
        sd_ratio: the standard deviation at the half step size over that at the whole one, of the
            value with the largest `sd_z`.
        mean_shift: the largest difference of means, in posterior standard deviations.
        sd_z: the log ratio of standard deviations in its standard errors where that is largest,
            with its sign.
        mean_z: the largest difference of means in its standard errors.
        limit: what |z| exceeds somewhere with probability 0.01 at most, where there is no bias.
        ok: whether both are within Monte Carlo error.
    """

    step_sizes: tuple[float, float]
    sd_ratio: float
    mean_shift: float
    sd_z: float
    mean_z: float
    limit: float
    ok: bool

    def __repr__(self) -> str:
        whole, half = self.step_sizes
        head = (
            "no bias of the step size can be seen"
            if self.ok
            else f"the step size biases the answer: lower step_size below {whole:.2g}"
        )
        return (
            f"{head}\n  step size {whole:.2g} -> {half:.2g}: the sd that changes most by a factor "
            f"{self.sd_ratio:.3f} (z = {self.sd_z:.1f}), largest shift of a mean "
            f"{self.mean_shift:.2f} sd (z = {self.mean_z:.1f}); chance gives z up to "
            f"{self.limit:.1f}"
        )


def halve_step(posterior: AbstractPosterior, progress: ProgressLike = True) -> StepHalving:
    """Run the sampler once more with half the step size that it had, and compare the answers.

    Args:
        posterior: the posterior, drawn by a sampler without an accept step.
        progress: whether to show a progress bar, or what shows it.

    Raises:
        UnsupportedError: for an engine whose step size has no bias or is not its own to set, or a
            model without function values that vary.
        ValueError: for draws that are NaN or infinite.
    """
    whole = posterior.engine.step_size_of(posterior.raw)
    # before the second run, so that nobody waits for a refusal
    values = _usable_values(posterior)
    engine = posterior.engine.with_half_step(posterior.raw)
    again = posterior.refit(engine, posterior.seed + 1, progress)
    step_sizes = (whole, engine.step_size_of(again.raw))
    return compare_runs(step_sizes, values, _usable_values(again))


def _usable_values(posterior: AbstractPosterior) -> np.ndarray:
    """Return function values in double precision, shape (chain, draw, values).

    Raises:
        UnsupportedError: for a model without function values that vary.
        ValueError: for values that are not finite, or too few draws.
    """
    values = posterior.function_values()
    if values is None:
        raise UnsupportedError("This model has no function values E[y | x, z] to compare.")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            "Function values are NaN or infinite, so there is nothing to compare: see "
            "post.diagnose()."
        )
    if values.shape[1] < LEAST_DRAWS:
        raise ValueError(
            f"There are {values.shape[1]} draws per chain, expected at least {LEAST_DRAWS}: raise "
            "num_samples."
        )
    if _constant(values).all():
        raise UnsupportedError(
            "The function values E[y | x, z] of this model do not depend on z, so there is nothing "
            "to compare."
        )
    return values


def _constant(values: np.ndarray) -> np.ndarray:
    """Tell which values are the same in all draws."""
    return np.ptp(values, axis=(0, 1)) == 0


def compare_runs(step_sizes: tuple[float, float], one: np.ndarray, two: np.ndarray) -> StepHalving:
    """Compare draws of shape (chain, draw, values).

    Values that are constant in a run are left out, as they have no Monte Carlo error there. The
    error of a standard deviation is that of the mean of squared deviations, whose draws depend on
    each other in another way than those of the values.

    Args:
        step_sizes: the step sizes of both runs.
        one: the function values of the first run.
        two: the function values of the second run.
    """
    from arviz_stats.base.array import array_stats
    from scipy.stats import norm

    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    vary = ~(_constant(one) | _constant(two))
    if not vary.any():
        raise UnsupportedError(
            "No function value E[y | x, z] varies in both runs, so there is nothing to compare."
        )
    one, two = one[..., vary], two[..., vary]
    means, sds = [v.mean((0, 1)) for v in (one, two)], [v.std((0, 1)) for v in (one, two)]
    mean_errors = [array_stats.mcse(v, **axes) for v in (one, two)]
    squares = [(v - mean) ** 2 for v, mean in zip((one, two), means, strict=True)]
    sd_errors = [
        array_stats.mcse(v, **axes) / (2 * sd**2) for v, sd in zip(squares, sds, strict=True)
    ]
    shift = np.abs(means[1] - means[0])
    mean_z = float(np.max(shift / np.hypot(mean_errors[0], mean_errors[1])))
    log_ratio = np.log(sds[1] / sds[0])
    z = log_ratio / np.hypot(sd_errors[0], sd_errors[1])
    worst = np.argmax(np.abs(z))
    # two sides; as many means as standard deviations
    limit = float(norm.isf(LEVEL / 2 / (2 * len(z))))
    ok = bool(mean_z < limit and abs(z[worst]) < limit)
    ratio, mean_shift = float(np.exp(log_ratio[worst])), float(np.max(shift / sds[0]))
    return StepHalving(step_sizes, ratio, mean_shift, float(z[worst]), mean_z, limit, ok)
