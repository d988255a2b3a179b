"""The compiled functions of a run: starting chains, a block of draws, and the program's sites.

A block makes up to `length` draws in a `fori_loop` whose bounds are arguments. So warm-up,
sampling and remainders share one compilation.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from inference.core.typing import Key, PyTree, SiteArrays
from inference.mcmc.runner.layout import Layout, over_chains
from inference.mcmc.runner.sampler import AbstractSampler, ChainState, Number, drop_weak_types
from inference.mcmc.runner.sharing import SamplerOf

# bounds of the number of draws in a block, and of the memory that they take
SHORTEST, LONGEST = 50, 1000
BLOCK_BYTES = 32_000_000


def compile_init(sampler_of: SamplerOf, layout: Layout, quick: bool) -> Callable:
    """Compile `(keys, inputs) -> states`.

    Samplers that tune in `init` do so as they draw: side by side, or spread over devices.
    """

    def init(key: Key, inputs: PyTree) -> ChainState:
        return drop_weak_types(sampler_of(inputs).init(key))

    return over_chains(init, layout, quick)


def compile_constrain(sampler_of: SamplerOf, _: Layout) -> Callable:
    """Compile `(positions, inputs) -> sites`, with leading axes (draw, chain)."""

    def constrain(positions: PyTree, inputs: PyTree) -> SiteArrays:
        return jax.lax.map(jax.vmap(sampler_of(inputs).constrain), positions)

    return jax.jit(constrain)


def compile_block(sampler_of: SamplerOf, layout: Layout, length: int) -> Callable:
    """Compile `(states, inputs, j, n) -> (states, (positions, statistics))`.

    The function makes n <= length draws from number j on.
    """

    def one_chain(state: ChainState, inputs: PyTree, j: Number, n: Number) -> tuple:
        sampler = sampler_of(inputs)
        buffers = jax.tree.map(
            lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), sampler.record(state)
        )

        def step(i: jax.Array, carry: tuple) -> tuple:
            state = sampler.step(i, carry[0])
            # thinning must not hide divergences in the steps between draws
            return state, carry[1] | sampler.record(state)[1]["diverging"]

        def draw(k: jax.Array, carry: tuple) -> tuple:
            state, buffers = carry
            first, stop = sampler.steps_before(j + k), sampler.steps_before(j + k + 1)
            state, diverged = jax.lax.fori_loop(first, stop, step, (state, jnp.zeros((), bool)))
            position, stats = sampler.record(state)
            made = position, stats | {"diverging": diverged}
            filled = jax.tree.map(lambda buffer, value: buffer.at[k].set(value), buffers, made)
            return state, filled

        state, buffers = jax.lax.fori_loop(0, n, draw, (state, buffers))
        return drop_weak_types(state), buffers

    return over_chains(one_chain, layout)


def shapes_of_draw(sampler: AbstractSampler, recorded: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shape and dtype of what one chain keeps of a draw, by name.

    Args:
        sampler: the chain.
        recorded: the shapes of what `sampler.record` returns, with a leading axis over chains.
    """
    position, stats = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), recorded
    )
    sites = jax.eval_shape(sampler.constrain, position)
    return {f"samples/{k}": v for k, v in sites.items()} | {
        f"stats/{k}": v for k, v in stats.items()
    }


def block_length(shapes: PyTree, total: int) -> int:
    """Return the number of draws of a block: a fiftieth of the run, within the bounds.

    Args:
        shapes: the shapes of all that a draw takes, of all chains.
        total: the number of draws of the run, those of warm-up included.
    """
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return max(1, min(max(SHORTEST, min(total // 50, LONGEST)), BLOCK_BYTES // size))
