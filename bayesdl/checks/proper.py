"""Whether a model's prior is a distribution that can be drawn from, as prior draws and simulated data need."""

from __future__ import annotations

from numpyro.distributions import Unit

from bayesdl.data.validation import ModelError
from inference.core.problem import Problem


def refuse_unnormalised(problem: Problem) -> None:
    """Refuses programs whose prior cannot be drawn from.

    Raises:
        ModelError: naming the factor or the site.
    """
    for name, site in problem.trace.items():
        if site["type"] != "sample":
            continue
        if isinstance(site["fn"], Unit):
            raise ModelError(
                f"The factor {name!r} leaves the prior unnormalised, so nothing can be drawn from it."
            )
        law = site["fn"]
        while hasattr(law, "base_dist"):
            law = law.base_dist
        if type(law).__name__ == "ImproperUniform":
            raise ModelError(
                f"Site {name!r} has an improper prior, from which nothing can be drawn: give it a proper one."
            )
