"""The precision a model is computed in: double where its arithmetic needs it, otherwise what JAX is set to."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax
import numpy as np

from bayesdl.model.base import AbstractModel


def is_double(model: AbstractModel) -> bool:
    """Whether this model is computed with 64 bits."""
    return model.double_precision or jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def precision_scope(model: AbstractModel) -> AbstractContextManager:
    """The scope in which JAX computes with this model's precision."""
    return jax.enable_x64(is_double(model))
