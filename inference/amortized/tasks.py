"""The data sets that a prior-data fitted network is trained on, drawn from a program."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro import handlers

from inference.amortized.inputs import INPUTS
from inference.core.keys import tagged_key
from inference.core.program import KeyPerName
from inference.core.typing import Key, Program

# The site of the target.
TARGET = "y"

# The site of the inputs, in programs that draw them.
INPUT = "X"

# Tasks drawn at once where many are needed, which bounds the memory.
AT_ONCE = 64


class Batch(NamedTuple):
    """Data sets of one shape.

    Attributes:
        X: the inputs of all rows, shape (tasks, rows, inputs); the last rows are queries.
        y: the targets of all rows, shape (tasks, rows).
        num_rows: the number of rows of each task's context, shape (tasks,); the rows between the
            context and the queries are padding.
        latents: the values of the latent sites that are predicted too, shape (tasks, sites).
    """

    X: jax.Array
    y: jax.Array
    num_rows: jax.Array
    latents: jax.Array


@dataclasses.dataclass(frozen=True)
class Tasks:
    """A distribution over data sets.

    Attributes:
        program: a NumPyro program `program(X)` that draws its site `TARGET`.
        num_inputs: the fewest and the most columns; columns that are not used are zero.
        max_rows: the largest number of rows of a context.
        num_queries: the number of rows to predict.
        inputs: the distribution of inputs: a key of `INPUTS`, or a function (key, shape) -> X. It
            is None for a network whose file did not hold such a function.
        double: whether programs need 64 bits.
        latents: the names of the sites to be predicted too, each of one number.
    """

    program: Program
    num_inputs: tuple[int, int]
    max_rows: int
    num_queries: int
    inputs: str | Callable[[Key, tuple[int, int]], jax.Array] | None = "normal"
    double: bool = False
    latents: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return all fields but the program, as plain data; a function of inputs becomes None."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "program"
        }
        return given | {"inputs": self.inputs if isinstance(self.inputs, str) else None}

    def draw(self, key: Key, num_tasks: int, at_once: int | None = None) -> Batch:
        """Draw tasks; this is a JAX function.

        Args:
            key: the random key.
            num_tasks: the number of tasks.
            at_once: the number of tasks computed at once, if it divides `num_tasks`.
        """
        keys = jax.random.split(tagged_key(key, "tasks"), num_tasks)
        parts = num_tasks // at_once if at_once and num_tasks % at_once == 0 else 1
        drawn = jax.lax.map(jax.vmap(self.draw_one), keys.reshape(parts, -1))
        X, y, latents = (part.reshape(num_tasks, *part.shape[2:]) for part in drawn)
        rows = self.draw_rows(tagged_key(key, "rows"), num_tasks)
        kind = jnp.int32 if jnp.issubdtype(y.dtype, jnp.integer) else jnp.float32
        return Batch(X.astype(jnp.float32), y.astype(kind), rows, latents.astype(jnp.float32))

    def draw_rows(self, key: Key, num_tasks: int) -> jax.Array:
        """Draw the numbers of rows of contexts, shape (num_tasks,).

        The density of x = rows / max_rows is 1/2 + x, as large contexts are learned more slowly.
        """
        share = jax.random.uniform(key, (2, num_tasks), jnp.float32)
        # Half of the shares are uniform; the others, the larger of two, have density 2 x.
        share = jnp.where(jnp.arange(num_tasks) % 2 == 0, share[0], share.max(0))
        return jnp.floor(share * (self.max_rows + 1)).astype(jnp.int32).clip(0, self.max_rows)

    def draw_one(self, key: Key) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draw inputs, targets and latents of one task."""
        X = self.draw_inputs(key)
        sites = self.sites(key, X)
        # Some programs draw the inputs that belong to their targets.
        if _has_inputs(sites, X):
            X = sites[INPUT]["value"]
        return X, sites[TARGET]["value"], jnp.array([sites[name]["value"] for name in self.latents])

    def sites(self, key: Key, X: jax.Array) -> dict[str, Any]:
        """Return all sites of one run of the program, as NumPyro's traces describe them."""
        return handlers.trace(KeyPerName(self.program, key)).get_trace(X)

    def draws_inputs(self) -> bool:
        """Return whether the program draws the inputs that belong to its targets."""
        found, X = [], jnp.zeros((2, self.num_inputs[1]))

        def run(key: Key) -> jax.Array:
            sites = self.sites(key, X)
            found.append(_has_inputs(sites, X))
            return sites[TARGET]["value"]

        with jax.enable_x64(self.double):
            jax.eval_shape(run, jax.random.key(0))
        return found[0]

    def draw_inputs(self, key: Key) -> jax.Array:
        """Draw inputs, with zeros in the columns that are not used."""
        low, high = self.num_inputs
        shape, dtype = (
            (self.max_rows + self.num_queries, high),
            jnp.float64 if self.double else jnp.float32,
        )
        if self.inputs is None:
            raise ValueError(
                "The function of inputs that a PFN was trained with is code, which its file does "
                "not hold."
            )
        drawn = tagged_key(key, "inputs"), shape
        X = (
            INPUTS[self.inputs](*drawn, dtype)
            if isinstance(self.inputs, str)
            else self.inputs(*drawn).astype(dtype)
        )
        if low == high:
            return X
        used = jax.random.randint(tagged_key(key, "columns"), (), low, high + 1)
        return jnp.where(jnp.arange(high)[None, :] < used, X, 0.0)


def _has_inputs(sites: dict[str, Any], X: jax.Array) -> bool:
    """Return whether a program says by a deterministic site which inputs it has drawn.

    A random site of that name is a latent one, as of inputs that are seen with errors.
    """
    site = sites.get(INPUT)
    return (
        site is not None and site["type"] == "deterministic" and jnp.shape(site["value"]) == X.shape
    )


def simulate(tasks: Tasks, key: Key, num_tasks: int) -> Batch:
    """Draw tasks by a function that is compiled once for each number of tasks."""
    with jax.enable_x64(tasks.double):
        return _draw_compiled(tasks, key, num_tasks)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _draw_compiled(tasks: Tasks, key: Key, num_tasks: int) -> Batch:
    """Draw tasks, compiled."""
    return tasks.draw(key, num_tasks, AT_ONCE)
