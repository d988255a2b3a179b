"""Data sets that a prior-data fitted network is trained on: drawn from a program, inputs included."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro import handlers

from inference.amortized.inputs import INPUTS
from inference.core.keys import tagged_key
from inference.core.program import KeyPerName, Program

TARGET = "y"
AT_ONCE = 64  # tasks, where many are drawn for their own sake: it bounds the memory


class Batch(NamedTuple):
    """Data sets of one shape.

    Attributes:
        X: inputs of all rows, shape (tasks, rows, inputs); the last ones are queries.
        y: their targets, shape (tasks, rows).
        num_rows: of each task's context, shape (tasks,); those from there to the queries are padding.
        latents: values of the latent sites that are predicted too, shape (tasks, sites).
    """

    X: jax.Array
    y: jax.Array
    num_rows: jax.Array
    latents: jax.Array


@dataclasses.dataclass(frozen=True)
class Tasks:
    """A distribution over data sets.

    Attributes:
        program: a NumPyro program `program(X)` that draws its site `TARGET` where no target is given.
        num_inputs: fewest and most columns; others are zero.
        max_rows: of a context.
        num_queries: rows to predict.
        inputs: one of `INPUTS`, or a function (key, shape) -> X.
        double: whether programs need 64 bits.
        latents: sites to be predicted too, each one number.
    """

    program: Program
    num_inputs: tuple[int, int]
    max_rows: int
    num_queries: int
    inputs: Any = "normal"
    double: bool = False
    latents: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """All but the program, as plain data; a function of inputs is None."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "program"
        }
        return given | {"inputs": self.inputs if isinstance(self.inputs, str) else None}

    def draw(self, key: jax.Array, num_tasks: int, at_once: int | None = None) -> Batch:
        """So many tasks, where it goes so many at once; a JAX function."""
        keys = jax.random.split(tagged_key(key, "tasks"), num_tasks)
        parts = num_tasks // at_once if at_once and num_tasks % at_once == 0 else 1
        drawn = jax.lax.map(jax.vmap(self.one), keys.reshape(parts, -1))
        X, y, latents = (part.reshape(num_tasks, *part.shape[2:]) for part in drawn)
        rows = self.draw_rows(tagged_key(key, "rows"), num_tasks)
        kind = jnp.int32 if jnp.issubdtype(y.dtype, jnp.integer) else jnp.float32
        return Batch(X.astype(jnp.float32), y.astype(kind), rows, latents.astype(jnp.float32))

    def draw_rows(self, key: jax.Array, num_tasks: int) -> jax.Array:
        """Numbers of rows of contexts: density 1/2 + x of x = rows / max_rows, as large contexts are learned more slowly."""
        share = jax.random.uniform(key, (2, num_tasks), jnp.float32)
        share = jnp.where(
            jnp.arange(num_tasks) % 2 == 0, share[0], share.max(0)
        )  # the larger of two has density 2 x
        return jnp.floor(share * (self.max_rows + 1)).astype(jnp.int32).clip(0, self.max_rows)

    def one(self, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Inputs, targets and latents of one task."""
        X = self.draw_inputs(key)
        sites = self.sites(key, X)
        return X, sites[TARGET]["value"], jnp.array([sites[name]["value"] for name in self.latents])

    def sites(self, key: jax.Array, X: jax.Array) -> dict[str, Any]:
        """All sites of one run of the program."""
        return handlers.trace(KeyPerName(self.program, key)).get_trace(X)

    def draw_inputs(self, key: jax.Array) -> jax.Array:
        """Inputs, with columns that are not used at zero."""
        low, high = self.num_inputs
        shape, dtype = (
            (self.max_rows + self.num_queries, high),
            jnp.float64 if self.double else jnp.float32,
        )
        if self.inputs is None:
            raise ValueError(
                "The function of inputs that a PFN was trained with is code, which its file does not hold."
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


def simulated(tasks: Tasks, key: jax.Array, num_tasks: int) -> Batch:
    """So many tasks, by a function that is compiled once for each number."""
    with jax.enable_x64(tasks.double):
        return compiled_draw(tasks, key, num_tasks)


@functools.partial(jax.jit, static_argnums=(0, 2))
def compiled_draw(tasks: Tasks, key: jax.Array, num_tasks: int) -> Batch:
    return tasks.draw(key, num_tasks, AT_ONCE)
