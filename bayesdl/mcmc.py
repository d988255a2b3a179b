"""Functions of posteriors that Markov chains drew: more draws, and what the step size does.

post = bayesdl.mcmc.extend(post, 1000)
print(bayesdl.mcmc.halve_step(post))
"""

from __future__ import annotations

from bayesdl.checks.halving import StepHalving, halve_step
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.adjustment import changed
from bayesdl.posterior.posterior import Posterior
from bayesdl.typing import Integer, ProgressLike
from inference.core.progress import as_progress
from inference.settings import is_whole


def extend(post: Posterior, num_samples: Integer, progress: ProgressLike = True) -> Posterior:
    """Return the same posterior with more draws; the chains go on where they were.

    They do so after `bdl.load` too, and an interrupted run is completed by it. `CyclicalSGMCMC`
    goes on with whole cycles, of the length that they had.

    Args:
        post: the posterior, drawn by an engine of Markov chains.
        num_samples: the number of draws to add to each chain.
        progress: whether to show a progress bar, or what shows it.

    Raises:
        UnsupportedError: for an engine that does not draw samples, or draws that hold no state.
        ValueError: for a number of draws below 1, or one that would cut a cycle.

    Example:
        >>> import numpy as np, bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> engine = bdl.NUTS(num_warmup=50, num_samples=50, num_chains=2)
        >>> model = bdl.BNN(hidden=())
        >>> post = bdl.fit(model, x[:, None], x + np.sin(9 * x), engine=engine, progress=False)
        >>> extend(post, 30, progress=False).samples["sigma"].shape
        (2, 80)
    """
    if not is_whole(num_samples):
        raise ValueError(
            f"extend(num_samples={num_samples!r}): expected a whole number of at least 1."
        )
    shown = as_progress(progress)
    with precision_scope(post.model):
        result = post.engine.extend(post.problem, post.raw, num_samples, shown)
    return changed(post, raw=result)


__all__ = ["StepHalving", "extend", "halve_step"]
