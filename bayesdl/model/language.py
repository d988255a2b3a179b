"""The modelling words of priors, networks and likelihoods, shared by NumPyro and Pyro.

NumPyro and Pyro share their modelling language. A model takes a `Language` and uses only its
words, so one text is a NumPyro or a Pyro program. `NUMPYRO` is the default, and
`bayesdl.interop.pyro` has the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions

if TYPE_CHECKING:
    Tensor: TypeAlias = jax.Array
    """An array of the language: a JAX array for NumPyro, a torch tensor for Pyro."""

    LanguageDistribution: TypeAlias = numpyro.distributions.Distribution
    """A distribution of the language: NumPyro's or Pyro's."""
else:
    Tensor = LanguageDistribution = object

ArrayFunction: TypeAlias = Callable[[Any], Any]
"""A function of one array, applied to each entry."""


class Language(NamedTuple):
    """The words of a modelling language, then its array functions.

    Attributes:
        sample: declares a random variable, as `numpyro.sample`.
        deterministic: records a value under a name, as `numpyro.deterministic`.
        plate: declares that rows are independent, as `numpyro.plate`.
        dist: the module of distributions.
        dist_from: turns a NumPyro distribution with constant parameters into one of this language.
        shift: maps (distribution of a positive x, number) to the distribution of x + number.
        negative_binomial: maps (concentration, logits) to the distribution with mean
            concentration * exp(logits).
        exp: the exponential function.
        log: the natural logarithm.
        softplus: log(1 + exp(x)).
        activations: the activation functions of networks by name.
    """

    sample: Callable[..., Any]
    deterministic: Callable[..., Any]
    plate: Callable[..., Any]
    dist: Any
    dist_from: Callable[..., Any]
    shift: Callable[..., Any]
    negative_binomial: Callable[..., Any]
    exp: ArrayFunction
    log: ArrayFunction
    softplus: ArrayFunction
    activations: dict[str, ArrayFunction]


def _shift(
    distribution: numpyro.distributions.Distribution, by: float
) -> numpyro.distributions.Distribution:
    """Return the distribution of x + by for a positive x."""
    support = distribution.support
    assert support is not None
    transform = numpyro.distributions.transforms.AffineTransform(by, 1.0, domain=support)
    return numpyro.distributions.TransformedDistribution(distribution, transform)


def _negative_binomial(
    concentration: jax.typing.ArrayLike, logits: jax.typing.ArrayLike
) -> numpyro.distributions.Distribution:
    """Return the negative binomial distribution with mean concentration * exp(logits)."""
    return numpyro.distributions.NegativeBinomialLogits(concentration, logits)


NUMPYRO = Language(
    sample=numpyro.sample,
    deterministic=numpyro.deterministic,
    plate=numpyro.plate,
    dist=numpyro.distributions,
    dist_from=lambda distribution: distribution,
    shift=_shift,
    negative_binomial=_negative_binomial,
    exp=jnp.exp,
    log=jnp.log,
    softplus=jax.nn.softplus,
    activations={
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "silu": jax.nn.silu,
        "sine": jnp.sin,
        "erf": jax.scipy.special.erf,
    },
)
