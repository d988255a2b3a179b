"""Which kernel computes a store: the one made for its pattern, or the transient dense one where that is faster here.

Small layers take the first without measuring. For others both are compiled and timed once per process, on random numbers,
forwards and backwards; results of the two differ by rounding, so a run that goes on keeps what it began with.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from inference.sparse.patterns.pattern import BudgetError, Pattern
from inference.sparse.products.kernels import KERNELS, fitting

SMALL = 50_000  # weights of a dense layer below which nothing is measured
REPEATS = 5


def chosen_kernels(patterns: Mapping[str, Pattern], kernel: str, rows: int) -> dict[str, str]:
    """The kernel of each store.

    Args:
        patterns: of the stores.
        kernel: "auto", or one for all stores that are not dense.
        rows: of a step.

    Raises:
        BudgetError: for a kernel that does not fit a structure.
    """
    return {name: chosen_kernel(pattern, kernel, rows) for name, pattern in patterns.items()}


def chosen_kernel(pattern: Pattern, kernel: str, rows: int) -> str:
    able = fitting(pattern)
    if kernel == "auto":
        small = pattern.shape[0] * pattern.shape[1] < SMALL or pattern.shape[0] == 1
        return able[0] if len(able) == 1 or small else fastest(pattern, able, rows)
    if pattern.is_dense or pattern.shape[0] == 1:
        return able[0]
    if kernel not in able:
        raise BudgetError(
            f"kernel='{kernel}' cannot multiply with tiles {pattern.tile} of this structure: expected 'auto', "
            f"{' or '.join(map(repr, able))}."
        )
    return kernel


@functools.cache
def fastest(pattern: Pattern, kernels: tuple[str, ...], rows: int) -> str:
    """The fastest of these kernels on this machine; the first where another is not faster by a tenth."""
    times = [seconds(pattern, kernel, rows) for kernel in kernels]
    best = min(range(len(kernels)), key=times.__getitem__)
    return kernels[best] if times[best] < 0.9 * times[0] else kernels[0]


def seconds(pattern: Pattern, kernel: str, rows: int) -> float:
    """Of the products of a layer and their derivatives, the least of some runs."""
    key = jax.random.key(0)
    index = pattern.draw(key)
    values = jax.random.uniform(key, pattern.values_shape)
    h = jax.random.normal(key, (pattern.shape[1], rows))

    def loss(h: Any, index: Any, mean: Any, variance: Any) -> Any:
        out, spread = KERNELS[kernel](pattern, h, index, mean, variance)
        return jnp.sum(out * out) + jnp.sum(spread * spread)

    compiled = jax.jit(jax.grad(loss, argnums=(0, 2, 3)))
    jax.block_until_ready(compiled(h, index, values, values))
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(compiled(h, index, values, values))
        times.append(time.perf_counter() - started)
    return min(times)
