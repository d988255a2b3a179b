"""The modelling language in Pyro's words, so that the text of a prior, a network or a likelihood is also a Pyro program.

NumPyro and Pyro name their distributions and their parameters alike, with three exceptions that are settled here: the
negative binomial, laws that are shifted, and the type of numbers. Every parameter becomes a float64 tensor, whatever
torch's default type is, so that both programs have the same log density to rounding (Phan, Pradhan and Jankowiak 2019,
arXiv:1912.11554).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.interop.activations import ACTIVATIONS
from bayesdl.model.language import Language
from inference.torch.install import load

torch, pyro, distributions = load("torch"), load("pyro"), load("pyro.distributions")


def to_tensor(value: Any) -> Any:
    """A tensor as it is, anything else as a float64 tensor."""
    return (
        value
        if isinstance(value, torch.Tensor)
        else torch.tensor(np.asarray(value), dtype=torch.float64)
    )


class DoubleDistributions:
    """Pyro's distributions by name, made with float64 parameters."""

    def __getattr__(self, name: str) -> Any:
        cls = getattr(distributions, name)

        def make(*args: Any, **named: Any) -> Any:
            return cls(
                *map(to_tensor, args), **{key: to_tensor(value) for key, value in named.items()}
            )

        return make


DISTRIBUTIONS = DoubleDistributions()


def dist_from(law: Any) -> Any:
    """The Pyro distribution that has the name and the parameters of a NumPyro one.

    Args:
        law: a NumPyro distribution with constant parameters, e.g. LogNormal(0, 1).

    Returns:
        The Pyro distribution, of the same batch shape.

    Raises:
        TypeError: where Pyro has no distribution with this name and these parameters.

    Example:
        >>> import numpyro.distributions as dist
        >>> float(dist_from(dist.Gamma(2.0, 0.5)).mean)
        4.0
    """
    name = type(law).__name__
    parameters = {key: np.asarray(getattr(law, key)) for key in law.arg_constraints}
    try:
        return getattr(DISTRIBUTIONS, name)(**parameters)
    except (AttributeError, TypeError):
        raise TypeError(
            f"Pyro has no distribution {name} with parameters {', '.join(parameters)}: "
            "give a prior that both libraries have, e.g. HalfNormal, LogNormal or Gamma."
        ) from None


class Shift(distributions.transforms.AffineTransform):
    """x + loc for a positive x; torch's own transform forgets that the result is above loc."""

    domain = distributions.constraints.positive

    @property
    def codomain(self) -> Any:
        return distributions.constraints.greater_than(self.loc)

    def with_cache(self, cache_size: int = 1) -> Shift:
        return Shift(self.loc, self.scale, cache_size=cache_size)


def shift(law: Any, by: float) -> Any:
    """The law of x + by for a positive x."""
    return distributions.TransformedDistribution(law, [Shift(to_tensor(by), 1.0)])


def negative_binomial(concentration: Any, logits: Any) -> Any:
    """NB with mean concentration * exp(logits)."""
    return DISTRIBUTIONS.NegativeBinomial(total_count=concentration, logits=logits)


PYRO = Language(
    sample=pyro.sample,
    deterministic=pyro.deterministic,
    plate=pyro.plate,
    dist=DISTRIBUTIONS,
    dist_from=dist_from,
    shift=shift,
    negative_binomial=negative_binomial,
    exp=lambda x: torch.exp(to_tensor(x)),
    log=lambda x: torch.log(to_tensor(x)),
    softplus=torch.nn.functional.softplus,
    activations=ACTIVATIONS,
)
