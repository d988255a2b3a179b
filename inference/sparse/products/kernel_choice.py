"""Which kernel computes a store: the one made for its pattern, or the transient one if faster.

Small layers take the first without measuring. For others both are compiled and timed once per
process, on random numbers, forwards and backwards. The results of the two differ by rounding, so a
run that goes on keeps the kernels it began with.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from inference.core.typing import AnyArray
from inference.sparse.patterns.pattern import BudgetError, Pattern
from inference.sparse.products.kernels import KERNELS, supported_kernels

NOT_TIMED_BELOW = 50_000
"""Kernels of dense layers with fewer weights than this are not timed."""

REPEATS = 5


def choose_kernels(patterns: Mapping[str, Pattern], kernel: str, rows: int) -> dict[str, str]:
    """Return the kernel of each store.

    Args:
        patterns: the pattern of each store.
        kernel: "auto", or one for all stores that are not dense.
        rows: the number of rows of a step.

    Raises:
        BudgetError: for a kernel that does not fit a structure.
    """
    return {name: _choose_kernel(pattern, kernel, rows) for name, pattern in patterns.items()}


def _choose_kernel(pattern: Pattern, kernel: str, rows: int) -> str:
    """Return the kernel of one store; the arguments are those of `choose_kernels`."""
    supported = supported_kernels(pattern)
    if kernel == "auto":
        small = pattern.shape[0] * pattern.shape[1] < NOT_TIMED_BELOW or pattern.shape[0] == 1
        if len(supported) == 1 or small:
            return supported[0]
        return _fastest_kernel(pattern, supported, rows)
    if pattern.is_dense or pattern.shape[0] == 1:
        return supported[0]
    if kernel not in supported:
        raise BudgetError(
            f"kernel='{kernel}' cannot multiply with tiles {pattern.tile} of this structure: "
            f"expected 'auto', {' or '.join(map(repr, supported))}."
        )
    return kernel


@functools.cache
def _fastest_kernel(pattern: Pattern, kernels: tuple[str, ...], rows: int) -> str:
    """Return the fastest of these kernels on this machine.

    It is the first one where no other is faster by a tenth.
    """
    times = [_time_kernel(pattern, kernel, rows) for kernel in kernels]
    best = min(range(len(kernels)), key=times.__getitem__)
    return kernels[best] if times[best] < 0.9 * times[0] else kernels[0]


def _time_kernel(pattern: Pattern, kernel: str, rows: int) -> float:
    """Return the seconds of the fastest of several timed forward and backward passes."""
    key = jax.random.key(0)
    index = pattern.draw_index(key)
    values = jax.random.uniform(key, pattern.values_shape)
    h = jax.random.normal(key, (pattern.shape[1], rows))

    def loss(h: AnyArray, index: AnyArray, mean: AnyArray, variance: AnyArray) -> jax.Array:
        out, spread = KERNELS[kernel](pattern, h, index, mean, variance)
        assert spread is not None
        return jnp.sum(out * out) + jnp.sum(spread * spread)

    compiled = jax.jit(jax.grad(loss, argnums=(0, 2, 3)))
    jax.block_until_ready(compiled(h, index, values, values))
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(compiled(h, index, values, values))
        times.append(time.perf_counter() - started)
    return min(times)
