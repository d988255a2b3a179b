"""Hashes of traced functions, by which two programs are recognised as the same.

A hash covers the operations of a program and the constants that it closes over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from inference.arguments import ConstantTable, is_frame


def hash_traced(traced: ClosedJaxpr) -> str:
    """Return a hash of the operations of a traced function and of the constants in them."""
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(traced)).encode())
    # the text leaves arrays out
    for value in _iterate_constants(traced):
        value = (
            jax.random.key_data(value)
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
            else value
        )
        digest.update(repr((value.dtype, value.shape)).encode() + np.asarray(value).tobytes())
    return digest.hexdigest()


def _iterate_constants(traced: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """Yield the arrays in a traced function, those in its inner functions included."""
    if isinstance(traced, ClosedJaxpr):
        yield from filter(_is_numeric, traced.consts)
        traced = traced.jaxpr
    for equation in traced.eqns:
        yield from (v.val for v in equation.invars if isinstance(v, Literal) and _is_numeric(v.val))
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from _iterate_constants(value)
            elif is_array(value):
                yield value


def _is_numeric(value: object) -> bool:
    """Whether a value has a dtype and a shape."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_array(value: object) -> bool:
    """Whether a value is a NumPy or a JAX array."""
    return isinstance(value, np.ndarray | jax.Array)


def hashed_array(array: np.ndarray | jax.Array) -> bytes:
    """Return type, shape and values of an array, in the precision that JAX computes with."""
    values = np.asarray(array)
    if values.dtype.kind in "iufbc":
        values = values.astype(jax.dtypes.canonicalize_dtype(values.dtype))
    return repr((values.dtype, values.shape)).encode() + values.tobytes()


def hash_arguments(args: tuple, kwargs: Mapping[str, Any]) -> str:
    """Return a hash of the arguments of a program."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((args, dict(kwargs))):
        digest.update(hashed_array(leaf) if is_array(leaf) else _described(leaf).encode())
    return digest.hexdigest()


def _described(leaf: object) -> str:
    """Return an argument as text; that of pandas leaves out most rows of a long table."""
    return repr(ConstantTable(leaf).content if is_frame(leaf) else leaf)
