"""Hashes of traced functions: whether two programs are the same, with the constants that they close over."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def hash_traced(traced: Any) -> str:
    """A hash of the operations of a traced function and of the constants in them."""
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(traced)).encode())
    for value in iterate_constants(traced):  # the text leaves arrays out
        value = (
            jax.random.key_data(value)
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
            else value
        )
        digest.update(repr((value.dtype, value.shape)).encode() + np.asarray(value).tobytes())
    return digest.hexdigest()


def iterate_constants(traced: Any) -> Iterator[Any]:
    """The arrays in a traced function, those in its inner functions included."""
    if isinstance(traced, ClosedJaxpr):
        yield from filter(is_numeric, traced.consts)
        traced = traced.jaxpr
    for equation in traced.eqns:
        yield from (v.val for v in equation.invars if isinstance(v, Literal) and is_numeric(v.val))
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from iterate_constants(value)
            elif is_array(value):
                yield value


def is_numeric(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array)
