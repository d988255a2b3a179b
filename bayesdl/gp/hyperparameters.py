"""Hyperparameters of kernels: fixed numbers, priors, or None for the default prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from bayesdl.data.validation import ModelError
from inference.settings import is_positive

Draw: TypeAlias = Callable[[str, Any, Any, tuple[int, ...]], Any]
"""A function (site, setting, default prior, shape) that gives a hyperparameter's value."""


def sample_hyperparameter(
    site: str, value: Any, default: dist.Distribution, shape: tuple[int, ...]
) -> ArrayLike | tuple[float, ...]:
    """Draw a hyperparameter as a NumPyro site, unless it is a fixed number.

    Args:
        site: the name of the site.
        value: a fixed number (or a tuple of them), a NumPyro distribution, or None.
        default: the prior where `value` is None.
        shape: the shape of the hyperparameter, () for one number.
    """
    if value is not None and not isinstance(value, dist.Distribution):
        return value
    prior = default if value is None else value
    drawn: Any = numpyro.sample(site, prior.expand(shape).to_event(len(shape)) if shape else prior)
    return drawn


def lengthscale_prior(num_inputs: int) -> dist.Distribution:
    """Return the default prior of length scales, LogNormal(log sqrt(2 p), 1) for p inputs."""
    return dist.LogNormal(0.5 * math.log(2 * num_inputs), 1.0)


def scale_prior() -> dist.Distribution:
    """Return the default prior of variances and periods, LogNormal(0.1, 1)."""
    return dist.LogNormal(0.1, 1.0)


def as_array(value: ArrayLike | list | tuple) -> jax.Array:
    """Return numbers as a JAX array."""
    return jnp.asarray(value)


def check_hyperparameter(kernel: object, name: str) -> None:
    """Refuse a setting that is not a positive number, a tuple of them, a prior or None.

    A list becomes a tuple.

    Raises:
        ValueError: naming the kernel, the setting and its value.
        ModelError: for a prior of several numbers, but of length scales with `ard`.
    """
    value = getattr(kernel, name)
    if isinstance(value, list):
        value = tuple(value)
        object.__setattr__(kernel, name, value)
    if isinstance(value, dist.Distribution):
        shape = value.shape()
        if shape and not (len(shape) == 1 and name == "lengthscale" and _has_ard(kernel)):
            ard = "; ard=True gives each input one of its own" if hasattr(kernel, "ard") else ""
            raise ModelError(
                f"{type(kernel).__name__}({name}=...): the prior has shape {shape}, expected one "
                f"of a single number{ard}."
            )
        return
    if value is None:
        return
    entries = value if isinstance(value, tuple) else (value,)
    if not all(map(is_positive, entries)):
        raise ValueError(
            f"{type(kernel).__name__}({name}={value!r}): expected a positive number (a tuple for "
            "one per input), a NumPyro distribution, or None."
        )


def _has_ard(kernel: object) -> bool:
    """Return whether a kernel has a length scale for each input."""
    return bool(getattr(kernel, "ard", False))


def check_length(kernel: object, lengthscale: object, num_inputs: int) -> None:
    """Refuse length scales, or a prior of them, that do not have one entry per input.

    Args:
        kernel: the kernel, for the error.
        lengthscale: its length scale, as users give it.
        num_inputs: the number of inputs.

    Raises:
        ModelError: saying both numbers.
    """
    if isinstance(lengthscale, dist.Distribution) and lengthscale.shape() not in (
        (),
        (num_inputs,),
    ):
        raise ModelError(
            f"{type(kernel).__name__}(lengthscale=...): the prior has shape {lengthscale.shape()} "
            f"and the model has {num_inputs} inputs (a category is one input): give a prior of one "
            "number, or of one number per input."
        )
    if isinstance(lengthscale, tuple) and len(lengthscale) != num_inputs:
        raise ModelError(
            f"{type(kernel).__name__}(lengthscale={lengthscale}) gives {len(lengthscale)} length "
            f"scales and the model has {num_inputs} inputs (a category is one input): give one per "
            "input, or one number for all."
        )
