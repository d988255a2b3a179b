"""Random keys: every function that draws takes one, and new keys are derived from names."""

from __future__ import annotations

import hashlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np


def named_key(key: jax.Array, name: str) -> jax.Array:
    """Return a key for a name, so that a new use of `key` never shifts the other draws."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def tagged_key(key: jax.Array, name: str) -> jax.Array:
    """Return a key for a name without hashing inside the compiled program.

    The hash of `named_key` takes longer to compile than a small program. Here 64 bits of the
    name are combined with the key by exclusive or. Counter-based generators such as Threefry
    are made for keys that differ in any way (Salmon et al. 2011, "Parallel random numbers: as
    easy as 1, 2, 3"). Tagging twice with one name gives the first key back, so the names along
    a chain of derivations must differ.
    """
    return _xor_key(
        key, np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), np.uint32)
    )


def parallel_keys(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return an array of keys of this shape, derived from `key` in the way of `tagged_key`."""
    return _xor_key(key, np.random.default_rng(0).integers(0, 2**32, (*shape, 2), dtype=np.uint32))


def _xor_key(key: jax.Array, tags: np.ndarray) -> jax.Array:
    """Combine a key with 64-bit tags, shape (..., 2) of 32-bit words, by exclusive or."""
    words = jax.random.key_data(key)
    tags = np.concatenate([tags, np.zeros((*tags.shape[:-1], words.shape[-1] - 2), np.uint32)], -1)
    words = jnp.broadcast_to(words, tags.shape) ^ jnp.asarray(tags)
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
