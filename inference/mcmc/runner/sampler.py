"""The contract between a sampler and the runner: a Markov chain as functions of its state.

The runner (`chains.py`) compiles these functions, maps them over chains and devices, and repeats
them in blocks.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.findings import no_start_message
from inference.core.problem import Problem, ProblemError
from inference.core.typing import Info, Key, PyTree, SiteArrays
from inference.mcmc.runner.layout import Layout, over_chains, place, to_host
from inference.programs.impossible import impossible_rows

ChainState: TypeAlias = PyTree
"""The state of one chain, or of several with a leading axis over chains: arrays in a tuple."""

Position: TypeAlias = PyTree
"""A point of unconstrained space: a flat vector, or a dictionary by site."""

Number: TypeAlias = int | jax.Array
"""The number of a draw or a step, which may be traced."""


class AbstractSampler(abc.ABC):
    """One chain of a problem.

    Draws are numbered. Those of warm-up, which are not kept, are j = -num_warmup, ..., -1, with
    one step each; the kept ones are j = 0, 1, ..., with `thinning` steps each. Steps are numbered
    from 0, warm-up included. The number i of a step is the same for all chains, so that schedules
    cost nothing.

    Attributes:
        problem: the problem that is sampled.
        num_warmup: the number of steps whose draws are not kept.
        thinning: the number of steps per kept draw.
        cheap_steps: whether steps are so cheap and so equal that chains are vectorised on a
            processor too.
        quick_start: whether `init` does no more than to draw.
        max_starts: how many starting points a chain tries until the log density is finite.
    """

    cheap_steps = False
    quick_start = False
    max_starts = 1

    def __init__(self, problem: Problem, num_warmup: int, thinning: int) -> None:
        self.problem, self.num_warmup, self.thinning = problem, num_warmup, thinning

    @abc.abstractmethod
    def init(self, key: Key) -> ChainState:
        """Return the state of one chain before its first step; a JAX function."""

    @abc.abstractmethod
    def step(self, i: jax.Array, state: ChainState) -> ChainState:
        """Make step number i; a JAX function."""

    @abc.abstractmethod
    def record(self, state: ChainState) -> tuple[Position, SiteArrays]:
        """Return the position, and statistics under the names that ArviZ uses.

        Statistics describe the last step. All samplers give "diverging", which the runner turns
        into whether any step of the draw diverged.
        """

    @abc.abstractmethod
    def constrain(self, position: Position) -> SiteArrays:
        """Return the program's sites at a position, deterministic ones too; a JAX function."""

    def prepare(self) -> None:  # noqa: B027 (most samplers have nothing to prepare)
        """Do what `step` needs and `init` would do, if this sampler has not started a chain."""

    def start(
        self, init_chains: Callable[[Key], ChainState], keys: Key, layout: Layout
    ) -> ChainState:
        """Return the states of all chains before their first step, spread as the layout says.

        Chains whose start has no finite log density start again elsewhere, `max_starts` times.

        Args:
            init_chains: the compiled function that maps `init` over chains.
            keys: a random key for each chain, shape (chain,).
            layout: the devices of the run.

        Raises:
            ProblemError: if a chain finds no such start.
        """
        states = init_chains(place(keys, layout))
        if self.max_starts == 1:
            return states
        replace = over_chains(_replace_bad_starts, layout)
        for attempt in range(1, self.max_starts):
            good = np.isfinite(to_host(self.record(states)[1]["lp"]))
            if good.all():
                return states
            new_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, attempt)
            others = init_chains(place(new_keys, layout))
            states = replace((place(good, layout), states, others))
        raise ProblemError(no_start_message(self.problem.latents, impossible_rows(self.problem)))

    def steps_before(self, j: Number) -> jax.Array:
        """Return the number of steps that are made before draw j is worked on."""
        return evenly_spaced_steps(j, self.num_warmup, self.thinning)

    def facts(self, states: ChainState) -> Info:
        """Return facts about the final states as plain data, such as tuned step sizes.

        Args:
            states: the states as NumPy arrays, with random keys as their data.
        """
        return {}


def _replace_bad_starts(chain: tuple[jax.Array, ChainState, ChainState]) -> ChainState:
    """Keep a chain that started well, replace another one.

    Args:
        chain: whether the first state is good; the first state; and another one.
    """
    good, first, other = chain
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), first, other)


def evenly_spaced_steps(j: Number, num_warmup: int, thinning: int) -> jax.Array:
    """Return the number of steps before draw j if every kept draw takes `thinning` steps."""
    return num_warmup + jnp.where(j < 0, j, thinning * j)


def drop_weak_types(state: ChainState) -> ChainState:
    """Return the same values without weak types.

    So the states of one block fit the next block, and it is not compiled twice.
    """

    def one(leaf: jax.Array) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(one, state)
