"""What every sampler is to the runner: a Markov chain as functions of its state.

The runner (`chains.py`) compiles these functions, maps them over chains and devices, and repeats them in blocks.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from inference.core.problem import Problem
from inference.mcmc.layout import Layout, place


class AbstractSampler(abc.ABC):
    """One chain of a problem.

    Draws are numbered: those of warm-up, which are not kept, by j = -num_warmup, ..., -1, one step each; the kept ones
    by j = 0, 1, ..., with `thinning` steps each. Steps are numbered from 0, warm-up included, and the number i of a step
    is the same for all chains, so that schedules cost nothing.

    Attributes:
        problem: what is sampled.
        num_warmup: steps whose draws are not kept.
        thinning: steps per kept draw.
    """

    cheap_steps = False  # whether steps are so cheap and so equal that chains are vectorised on a processor too
    quick_start = False  # whether `init` does no more than to draw

    def __init__(self, problem: Problem, num_warmup: int, thinning: int) -> None:
        self.problem, self.num_warmup, self.thinning = problem, num_warmup, thinning

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """The state of one chain before its first step; a JAX function."""

    @abc.abstractmethod
    def step(self, i: jax.Array, state: Any) -> Any:
        """Step number i; a JAX function."""

    @abc.abstractmethod
    def record(self, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        """What is kept of a state: the position, and statistics under the names that ArviZ uses.

        Statistics are those of the last step, but "diverging", which all samplers give, becomes whether any step of the
        draw diverged.
        """

    @abc.abstractmethod
    def constrain(self, position: Any) -> dict[str, jax.Array]:
        """The program's sites at a position, deterministic ones included; a JAX function."""

    def prepare(self) -> None:  # noqa: B027 (most samplers have nothing to prepare)
        """What `step` needs that `init` would do, where this sampler has not begun a chain itself."""

    def start(self, begin: Callable[[jax.Array], Any], keys: jax.Array, layout: Layout) -> Any:
        """The states of all chains before their first step, leading axis over chains, where the layout wants them.

        Args:
            begin: `init` over chains, compiled.
            keys: of the chains.
            layout: of the chains.
        """
        return begin(place(keys, layout))

    def steps_before(self, j: Any) -> Any:
        """The number of steps made before draw j is worked on."""
        return evenly_spaced_steps(j, self.num_warmup, self.thinning)

    def facts(self, states: Any) -> dict[str, Any]:
        """What is worth noting of the final states (NumPy arrays, random keys as their data), as plain data."""
        return {}


def evenly_spaced_steps(j: Any, num_warmup: int, thinning: int) -> Any:
    """Steps before draw j where every kept draw has as many."""
    return num_warmup + jnp.where(j < 0, j, thinning * j)


def drop_weak_types(state: Any) -> Any:
    """The same values without weak types, so that a block's states fit the next block and it is not compiled twice."""

    def one(leaf: jax.Array) -> jax.Array:
        return (
            leaf
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jax.lax.convert_element_type(leaf, leaf.dtype)
        )

    return jax.tree.map(one, state)
