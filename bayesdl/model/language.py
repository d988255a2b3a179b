"""The few words in which priors and likelihoods are written, so that one text is a NumPyro or a Pyro program.

NumPyro and Pyro share their modelling language. A model takes a `Language` and uses only its words; `NUMPYRO` is the
default, and `bayesdl.interop.pyro` gives the other one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions


class Language(NamedTuple):
    """Modelling words, then array functions.

    Attributes:
        dist: the module of distributions.
        dist_from: turns a NumPyro distribution with constant parameters into one of this language.
        shifted: maps (law of a positive x, number) to the law of x + number.
    """

    sample: Any
    deterministic: Any
    plate: Any
    dist: Any
    dist_from: Any
    shift: Any
    negative_binomial: Any
    exp: Any
    log: Any
    softplus: Any
    activations: dict[str, Any]


def shift(law: Any, by: float) -> Any:
    """The law of x + by for a positive x."""
    transform = numpyro.distributions.transforms.AffineTransform(by, 1.0, domain=law.support)
    return numpyro.distributions.TransformedDistribution(law, transform)


def negative_binomial(concentration: Any, logits: Any) -> Any:
    """NB with mean concentration * exp(logits)."""
    return numpyro.distributions.NegativeBinomialLogits(concentration, logits)


NUMPYRO = Language(
    sample=numpyro.sample,
    deterministic=numpyro.deterministic,
    plate=numpyro.plate,
    dist=numpyro.distributions,
    dist_from=lambda law: law,
    shift=shift,
    negative_binomial=negative_binomial,
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
