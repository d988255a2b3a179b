"""Transformations of NumPyro programs: whole plates, minibatches, keys by name, parameters.

Each is a program again, so that they can be nested.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro.primitives import Messenger

from inference.core.keys import tagged_key
from inference.core.typing import Program

Message: TypeAlias = dict[str, Any]
"""What NumPyro says of a site to its handlers."""


class AbstractTraceable(abc.ABC):
    """A program whose arguments are all arrays that may be traced, as may its own numbers.

    Programs that are equal apart from their numbers share compiled functions: split off the
    numbers, pass them to the compiled function as arguments, and merge them inside.
    """

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program."""

    @abc.abstractmethod
    def split_params(self) -> tuple[AbstractTraceable, PyTree]:
        """Return the program without its numbers, and the numbers as a pytree."""

    @abc.abstractmethod
    def merge_params(self, numbers: PyTree) -> AbstractTraceable:
        """Return the program with these numbers, which may be traced."""


def unwrap(program: Program) -> Program:
    """Return the program of a problem as the model gave it."""
    return program.program if isinstance(program, WholePlates) else program


@dataclasses.dataclass(frozen=True)
class WholePlates:
    """A program whose plates take all their rows, whatever `subsample_size` they ask for."""

    program: Program

    @property
    def __wrapped__(self) -> Program:
        """The program inside, for `inspect.signature`."""
        return self.program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with AllRows():
            return self.program(*args, **kwargs)


class AllRows(Messenger):
    """A handler that gives all rows to every plate; see `WholePlates`."""

    def process_message(self, msg: Message) -> None:
        if msg["type"] == "plate" and msg["value"] is None:
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)


class Subsampled(Messenger):
    """A program one of whose plates draws a random subset of its rows, or takes those given."""

    def __init__(
        self, program: Program, plate: str, size: int, rows: jax.Array | None = None
    ) -> None:
        super().__init__(program)
        self.plate, self.size, self.rows = plate, size, rows

    def process_message(self, msg: Message) -> None:
        if msg["type"] == "plate" and msg["name"] == self.plate and self.size < msg["args"][0]:
            self.total = msg["args"][0]
            msg["args"] = (self.total, self.size)
            msg["value"] = self.rows
        if msg["type"] == "sample" and msg["is_observed"] and self.rows is not None:
            self.take_rows(msg, self.rows)

    def take_rows(self, msg: Message, rows: jax.Array) -> None:
        """Take the batch's rows of observed values that `Problem.observing` set for all rows."""
        dims = [frame.dim for frame in msg["cond_indep_stack"] if frame.name == self.plate]
        if dims:
            axis = jnp.ndim(msg["value"]) + dims[0] - len(msg["fn"].event_shape)
            if msg["value"].shape[axis] == self.total != msg["fn"].shape()[axis]:
                msg["value"] = jnp.take(msg["value"], rows, axis)


class KeyPerName(Messenger):
    """A program that gives each random site a key derived from its name.

    It compiles faster than NumPyro's `seed`, which hashes inside the compiled program.
    """

    def __init__(self, program: Program, key: jax.Array) -> None:
        super().__init__(program)
        self.key, self.unnamed = key, 0

    def process_message(self, msg: Message) -> None:
        if msg["type"] not in ("sample", "prng_key", "plate", "control_flow"):
            return
        if msg["kwargs"]["rng_key"] is not None or msg["value"] is not None:
            return
        self.unnamed += "name" not in msg or msg["name"] is None
        msg["kwargs"]["rng_key"] = tagged_key(
            self.key, f"{msg['type']} {msg.get('name') or self.unnamed}"
        )


class WithParameters(Messenger):
    """A program with given values at its `numpyro.param` sites, and at no other sites."""

    def __init__(self, program: Program, params: Mapping[str, ArrayLike]) -> None:
        super().__init__(program)
        self.params = params

    def process_message(self, msg: Message) -> None:
        if msg["type"] == "param" and msg["name"] in self.params:
            msg["value"] = self.params[msg["name"]]
