"""Random keys are explicit: every function that draws takes one, and names derive new ones."""

from __future__ import annotations

import zlib

import jax


def named(key: jax.Array, name: str) -> jax.Array:
    """A key that depends on `key` and on a name, so that adding a use never shifts the other draws."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
