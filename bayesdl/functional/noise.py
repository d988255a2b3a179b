"""Draws of many normal sites from one vector of noise."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.primitives import Messenger

from inference.core.keys import tagged_key
from inference.vi.gradients.elements import element_distribution


class NoiseHandler(Messenger):
    """An effect handler that gives normal sites their values from one vector of noise.

    Transformed normal sites such as log-normal ones are included. The program compiles several
    times faster than with a draw for each site.

    Args:
        noise: standard normal noise.
        key: the key of all other sites, and of normal sites for which no noise is left.
    """

    def __init__(self, noise: jax.Array, key: jax.Array) -> None:
        super().__init__()
        self.noise, self.key, self.used = noise, key, 0

    def process_message(self, msg: dict) -> None:
        if msg["type"] != "sample" or msg["is_observed"] or msg["value"] is not None:
            return
        base: Any = element_distribution(msg["fn"])
        transforms: Any = ()
        if isinstance(base, dist.TransformedDistribution):
            base, transforms = element_distribution(base.base_dist), base.transforms
        shape: Any = msg["fn"].shape()
        size = math.prod(shape)
        if type(base) is not dist.Normal or self.used + size > len(self.noise):
            msg["kwargs"]["rng_key"] = tagged_key(self.key, msg["name"])
            return
        value: Any = self.noise[self.used : self.used + size].reshape(shape)
        self.used += size
        parts: Any = (base.loc, base.scale)
        loc, scale = (
            jnp.expand_dims(jnp.asarray(p), tuple(range(len(shape) - jnp.ndim(p)))) for p in parts
        )
        value = loc + scale * value
        for transform in transforms:
            value = transform(value)
        msg["value"] = value
