"""The precision of a model's arithmetic: double where it needs that, otherwise JAX's setting."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax
import numpy as np

from bayesdl.model.base import AbstractModel


def is_double(model: AbstractModel) -> bool:
    """Whether a model is computed with 64 bits."""
    return model.double_precision or jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def precision_scope(model: AbstractModel) -> AbstractContextManager:
    """Return the scope in which JAX computes with a model's precision."""
    return jax.enable_x64(is_double(model))
