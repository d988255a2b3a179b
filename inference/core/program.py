"""What is done to NumPyro programs before they run: whole plates, minibatches, keys by name, values of parameters."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.primitives import Messenger

from inference.core.keys import tagged_key

Program = Callable[..., Any]


class AbstractTraceable(abc.ABC):
    """A program all of whose arguments are arrays that may be traced, as may be numbers of its own.

    Functions compiled for one are shared by those that are equal without their numbers.
    """

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program."""

    @abc.abstractmethod
    def split_params(self) -> tuple[AbstractTraceable, Any]:
        """The program without its numbers, and these: a pytree."""

    @abc.abstractmethod
    def merge_params(self, numbers: Any) -> AbstractTraceable:
        """The program with its numbers again, which may be traced."""


def unwrap(program: Program) -> Program:
    """The program of a problem as the model gave it."""
    return program.program if isinstance(program, WholePlates) else program


@dataclasses.dataclass(frozen=True)
class WholePlates:
    """A program whose plates have all their rows, whatever `subsample_size` they ask for."""

    program: Program

    @property
    def __wrapped__(self) -> Program:
        """For `inspect.signature`."""
        return self.program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with AllRows():
            return self.program(*args, **kwargs)


class AllRows(Messenger):
    """See `WholePlates`."""

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate" and msg["value"] is None:
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)


class Subsampled(Messenger):
    """Makes one plate of a program draw a random subset of its indices, or take those given."""

    def __init__(
        self, program: Program, plate: str, size: int, rows: jax.Array | None = None
    ) -> None:
        super().__init__(program)
        self.plate, self.size, self.rows = plate, size, rows

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate" and msg["name"] == self.plate and self.size < msg["args"][0]:
            self.total = msg["args"][0]
            msg["args"] = (self.total, self.size)
            msg["value"] = self.rows
        if msg["type"] == "sample" and msg["is_observed"] and self.rows is not None:
            self.take_rows(msg, self.rows)

    def take_rows(self, msg: dict, rows: jax.Array) -> None:
        """Takes the batch's rows of values that `Problem.observing` gives, as those are of all rows."""
        dims = [frame.dim for frame in msg["cond_indep_stack"] if frame.name == self.plate]
        if dims:
            axis = jnp.ndim(msg["value"]) + dims[0] - len(msg["fn"].event_shape)
            if msg["value"].shape[axis] == self.total != msg["fn"].shape()[axis]:
                msg["value"] = jnp.take(msg["value"], rows, axis)


class KeyPerName(Messenger):
    """Gives each draw of a program a key derived from its name: this compiles faster than NumPyro's `seed`, which hashes."""

    def __init__(self, program: Program, key: jax.Array) -> None:
        super().__init__(program)
        self.key, self.unnamed = key, 0

    def process_message(self, msg: dict) -> None:
        if msg["type"] not in ("sample", "prng_key", "plate", "control_flow"):
            return
        if msg["kwargs"]["rng_key"] is not None or msg["value"] is not None:
            return
        self.unnamed += "name" not in msg or msg["name"] is None
        msg["kwargs"]["rng_key"] = tagged_key(
            self.key, f"{msg['type']} {msg.get('name') or self.unnamed}"
        )


class WithParameters(Messenger):
    """A program with values at its `numpyro.param` sites, and at no other site of the same name."""

    def __init__(self, program: Program, params: Mapping[str, Any]) -> None:
        super().__init__(program)
        self.params = params

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "param" and msg["name"] in self.params:
            msg["value"] = self.params[msg["name"]]
