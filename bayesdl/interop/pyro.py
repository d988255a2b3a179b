"""The modelling language in Pyro's words: priors, networks and likelihoods as Pyro programs.

NumPyro and Pyro name their distributions and their parameters alike, with three exceptions that are
settled here: the negative binomial, shifted distributions, and the type of numbers. Every parameter
becomes a float64 tensor, whatever torch's default type is, so that both programs have the same log
density to rounding (Phan, Pradhan and Jankowiak 2019, arXiv:1912.11554).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import Distribution

from bayesdl.interop.activations import ACTIVATIONS
from bayesdl.model.language import Language
from inference.torch.install import load

if TYPE_CHECKING:
    from pyro.distributions import TorchDistribution
    from torch import Tensor
    from torch.distributions.constraints import Constraint
else:
    Tensor = TorchDistribution = Constraint = object

torch, pyro, distributions = load("torch"), load("pyro"), load("pyro.distributions")


def _to_tensor(value: ArrayLike | Tensor) -> Tensor:
    """Return a tensor as it is, anything else as a float64 tensor."""
    if isinstance(value, torch.Tensor):
        return cast("Tensor", value)
    return torch.tensor(np.asarray(value), dtype=torch.float64)


class DoubleDistributions:
    """Pyro's distributions by name, made with float64 parameters."""

    def __getattr__(self, name: str) -> Callable[..., TorchDistribution]:
        cls = getattr(distributions, name)

        def make(*args: ArrayLike | Tensor, **named: ArrayLike | Tensor) -> TorchDistribution:
            return cls(
                *map(_to_tensor, args), **{key: _to_tensor(value) for key, value in named.items()}
            )

        return make


DISTRIBUTIONS = DoubleDistributions()


def dist_from(distribution: Distribution) -> TorchDistribution:
    """Return the Pyro distribution with the name and the parameters of a NumPyro one.

    Args:
        distribution: a NumPyro distribution with constant parameters, e.g. LogNormal(0, 1).

    Returns:
        The Pyro distribution, of the same batch shape.

    Raises:
        TypeError: where Pyro has no distribution with this name and these parameters.

    Example:
        >>> import numpyro.distributions as dist
        >>> float(dist_from(dist.Gamma(2.0, 0.5)).mean)
        4.0
    """
    name = type(distribution).__name__
    parameters = {
        key: np.asarray(getattr(distribution, key)) for key in distribution.arg_constraints
    }
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
    def codomain(self) -> Constraint:
        """Return the constraint to numbers above loc."""
        return distributions.constraints.greater_than(self.loc)

    def with_cache(self, cache_size: int = 1) -> Shift:
        return Shift(self.loc, self.scale, cache_size=cache_size)


def _shift(distribution: TorchDistribution, by: float) -> TorchDistribution:
    """Return the distribution of x + by for a positive x."""
    return distributions.TransformedDistribution(distribution, [Shift(_to_tensor(by), 1.0)])


def _negative_binomial(concentration: ArrayLike | Tensor, logits: Tensor) -> TorchDistribution:
    """Return the negative binomial distribution with mean concentration * exp(logits)."""
    return DISTRIBUTIONS.NegativeBinomial(total_count=concentration, logits=logits)


PYRO = Language(
    sample=pyro.sample,
    deterministic=pyro.deterministic,
    plate=pyro.plate,
    dist=DISTRIBUTIONS,
    dist_from=dist_from,
    shift=_shift,
    negative_binomial=_negative_binomial,
    exp=lambda x: torch.exp(_to_tensor(x)),
    log=lambda x: torch.log(_to_tensor(x)),
    softplus=torch.nn.functional.softplus,
    activations=ACTIVATIONS,
)
