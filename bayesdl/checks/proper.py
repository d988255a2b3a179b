"""Whether a prior is a distribution that can be drawn from, as simulated data need."""

from __future__ import annotations

from numpyro.distributions import Unit

from bayesdl.data.validation import ModelError
from inference.core.problem import Problem


def refuse_unnormalised(problem: Problem) -> None:
    """Refuse programs whose prior cannot be drawn from.

    Raises:
        ModelError: naming the factor or the site.
    """
    for name, site in problem.trace.items():
        if site["type"] != "sample":
            continue
        distribution = site["fn"]
        if isinstance(distribution, Unit):
            raise ModelError(
                f"The factor {name!r} leaves the prior unnormalised, so nothing can be drawn from "
                "it."
            )
        while hasattr(distribution, "base_dist"):
            distribution = distribution.base_dist
        if type(distribution).__name__ == "ImproperUniform":
            raise ModelError(
                f"Site {name!r} has an improper prior, from which nothing can be drawn: give it a "
                "proper one."
            )
