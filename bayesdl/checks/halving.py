"""Step halving: what the step size of a sampler without an accept step does to its answer.

Such samplers have a bias that vanishes with the step size. A second run with half the step size and twice the steps per
draw, so that both cover the same time, shows it: where the two agree within Monte Carlo error the bias is too small to be
seen, and otherwise the difference is most of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayesdl.posterior import Posterior
from inference.engine import UnsupportedError
from inference.mcmc.sgmcmc import AbstractSGMCMC

LIMIT = 4.0  # standard errors


@dataclasses.dataclass(frozen=True)
class StepHalving:
    """What changes when the step size is halved, over the function values E[y | x, z] at training rows.

    Attributes:
        step_sizes: of the two runs.
        sd_ratio: sd at the half step size over sd at the whole one, the median over values.
        mean_shift: largest difference of means, in posterior sds.
        sd_z: the median log ratio of sds in its standard errors.
        mean_z: the largest difference of means in its standard errors.
        ok: whether both are within Monte Carlo error.
    """

    step_sizes: tuple[float, float]
    sd_ratio: float
    mean_shift: float
    sd_z: float
    mean_z: float
    ok: bool

    def __repr__(self) -> str:
        whole, half = self.step_sizes
        head = (
            "no bias of the step size can be seen"
            if self.ok
            else f"the step size biases the answer: lower step_size below {whole:g}"
        )
        return (
            f"{head}\n  step size {whole:g} -> {half:g}: sd ratio {self.sd_ratio:.3f} (z = {self.sd_z:.1f}), "
            f"largest shift of a mean {self.mean_shift:.2f} sd (z = {self.mean_z:.1f})"
        )


def step_halving(posterior: Posterior, progress: Any = True) -> StepHalving:
    """Runs the posterior's sampler once more with half its step size and compares the function values.

    Raises:
        UnsupportedError: for an engine whose step size has no bias, or a model without function values.
    """
    from bayesdl.fitting import infer

    engine = posterior.engine
    if not isinstance(engine, AbstractSGMCMC):
        raise UnsupportedError(
            f"{type(engine).__name__} has no step size to halve; step halving is for SGLD, SGHMC and the like."
        )
    halved = dataclasses.replace(
        engine, step_size=engine.step_size / 2, thinning=2 * engine.thinning, num_warmup=2 * engine.num_warmup
    )
    again = infer(posterior.model, posterior.frame, posterior.problem, halved, posterior.seed + 1, progress)
    one, two = posterior.function_values(), again.function_values()
    if one is None or two is None:
        raise UnsupportedError("This model has no function values E[y | x, z] to compare.")
    return compared((engine.step_size, halved.step_size), one.astype(np.float64), two.astype(np.float64))


def compared(step_sizes: tuple[float, float], one: np.ndarray, two: np.ndarray) -> StepHalving:
    """Compares draws of shape (chain, draw, values)."""
    from arviz_stats.base.array import array_stats

    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    means, sds = [v.mean((0, 1)) for v in (one, two)], [v.std((0, 1)) for v in (one, two)]
    mean_errors = [array_stats.mcse(v, **axes) for v in (one, two)]
    sd_errors = [array_stats.mcse(v, method="sd", **axes) / sd for v, sd in zip((one, two), sds, strict=True)]
    shift = np.abs(means[1] - means[0])
    mean_z = float(np.max(shift / np.hypot(mean_errors[0], mean_errors[1])))
    log_ratio = np.log(sds[1] / sds[0])
    sd_z = float(np.median(log_ratio) / np.median(np.hypot(sd_errors[0], sd_errors[1])))
    ok = mean_z < LIMIT and abs(sd_z) < LIMIT
    return StepHalving(step_sizes, float(np.exp(np.median(log_ratio))), float(np.max(shift / sds[0])), sd_z, mean_z, ok)
