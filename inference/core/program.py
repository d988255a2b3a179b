"""Transformations of NumPyro programs: whole plates, minibatches, keys by name, parameters.

Each is a program again, so that they can be nested.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import (
    Distribution,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    Unit,
)
from numpyro.primitives import Messenger

from inference.arguments import fresh
from inference.core.keys import tagged_key
from inference.core.typing import Program
from inference.programs.outside import with_fresh_arrays

Message: TypeAlias = dict[str, Any]
"""What NumPyro says of a site to its handlers."""


class ProgramError(ValueError):
    """The program states no log density."""


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


def innermost(program: Program) -> Program:
    """Return the function that the handlers and decorators around a program call."""
    while True:
        inner = getattr(program, "fn" if isinstance(program, Messenger) else "__wrapped__", None)
        if inner is None:
            return program
        program = inner


def signature_of(program: Program) -> inspect.Signature:
    """Return the signature of the function that a program calls, without arguments it fixes."""
    program = innermost(program)
    if isinstance(program, functools.partial):
        inside = innermost(program.func)
        return inspect.signature(functools.partial(inside, *program.args, **program.keywords))
    if not isinstance(program, type) and not hasattr(program, "__name__"):
        program = program.__call__
    return inspect.signature(program)


def arguments_of(program: Program, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by the names that a program gives them."""
    return dict(signature_of(program).bind(*args, **kwargs).arguments)


def name_of(program: Program) -> str:
    """Return the name of the function that a program calls, or the class of a callable object."""
    program = innermost(program)
    while isinstance(program, functools.partial):
        program = innermost(program.func)
    return getattr(program, "__name__", type(program).__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class WholePlates:
    """A program whose plates take all their rows, whatever `subsample_size` they ask for.

    Attributes:
        program: the program.
        eager: whether what does not depend on traced values is computed while the program runs,
            as a program needs that reads values of JAX arrays in Python (`int(jnp.max(g)) + 1`).
        content: a hash of what the program computes, where it is known. A function may read global
            variables, and is another program when they change.
        arrays_only: whether the program computes the same with traced arrays.
    """

    program: Program
    eager: bool = False
    content: str = ""
    arrays_only: bool = False

    @property
    def takes_traced(self) -> bool:
        """Whether the arrays among the program's arguments may be traced."""
        return self.arrays_only or isinstance(self.program, AbstractTraceable)

    @property
    def __wrapped__(self) -> Program:
        """The program inside, for `inspect.signature`."""
        return self.program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rows = AllRows()
        try:
            if not self.eager:
                args, kwargs = jax.tree.map(fresh, (args, kwargs))
                with rows:
                    return with_fresh_arrays(self.program)(*args, **kwargs)
            with jax.ensure_compile_time_eval(), rows:
                args, kwargs = jax.tree.map(_on_device, (args, kwargs))
                return with_fresh_arrays(self.program)(*args, **kwargs)
        # what distributions and jax.random say of a key that is None
        except (AssertionError, TypeError) as error:
            if not rows.without_key:
                raise
            raise ProgramError(
                f"{name_of(self.program)} draws random numbers that are none of its sites "
                "(numpyro.prng_key(), or a site that handlers.block hides), so that it has no log "
                "density: write them as numpyro.sample, or give their values as an argument."
            ) from error

    def __hash__(self) -> int:
        return hash((_identity(self.program), self.eager, self.content))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WholePlates):
            return False
        if (self.eager, self.content) != (other.eager, other.content):
            return False
        return self.program is other.program or _identity(self.program) == _identity(other.program)


def _on_device(leaf: object) -> Any:
    """Return numbers of NumPy as an array of JAX, whose type is that of the computation."""
    numeric = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iufbc"
    return jnp.asarray(np.asarray(leaf)) if numeric else leaf


def _identity(program: Program) -> Hashable:
    """Return what a program compares by: itself, or its address where it has no hash."""
    try:
        hash(program)
    except TypeError:
        return ("a program at", id(program))
    return program


def split_given(
    program: Program, sites: Mapping[str, Any], given: Collection[str]
) -> tuple[Program, dict[str, Any], dict[str, Any]]:
    """Return the program given some of the sites, the values of the others, and those given."""
    known = {name: value for name, value in sites.items() if name in given}
    rest = {name: value for name, value in sites.items() if name not in given}
    return handlers.condition(program, data=known), rest, known


def is_factor(distribution: Distribution) -> bool:
    """Whether a site is a `numpyro.factor`, inside plates and masks too."""
    while isinstance(distribution, ExpandedDistribution | MaskedDistribution | Independent):
        distribution = distribution.base_dist
    return isinstance(distribution, Unit)


class AllRows(Messenger):
    """A handler that gives all rows to every plate, and a row to every observed value.

    A distribution of fewer entries than there are observed values, as without a plate around them,
    is that of each of them; the site's entry `rows_without_plate` holds both shapes. Its entry
    `given` is the value as the program gave it; `set_by_handler` is there where a handler inside
    the program gives a value to a site without observing it.

    `numpyro.sample("y", d, obs=y, obs_mask=seen)` makes a latent site "y_unobserved" of all rows.
    NumPyro gives no density to its entries for seen rows, so that chains wander without end in
    them. The program throws these entries away. Here they have the density d of an unseen row,
    which integrates to one and changes no other site.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observed: set[str] = set()
        self.without_key = False

    def process_message(self, msg: Message) -> None:
        if msg["type"] == "plate" and msg["value"] is None:
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)
        if msg["type"] != "sample":
            return
        site, _, part = msg["name"].rpartition("_")
        if msg["is_observed"] and msg["value"] is not None:
            self.observed.add(msg["name"])
            # NumPyro warns of NaN in NumPy arrays in every run, also where a mask hides them
            msg["given"], msg["value"] = msg["value"], _on_device(msg["value"])
            batch = expanded_batch(msg["fn"], jnp.shape(msg["value"]))
            if batch is not None:
                msg["rows_without_plate"] = tuple(msg["fn"].shape()), jnp.shape(msg["value"])
                msg["fn"] = msg["fn"].expand(batch)
        elif msg["value"] is not None and not msg.get("_control_flow_done"):
            msg["set_by_handler"] = True
        elif part == "unobserved" and f"{site}_observed" in self.observed:
            while isinstance(msg["fn"], MaskedDistribution):
                msg["fn"] = msg["fn"].base_dist

    def postprocess_message(self, msg: Message) -> None:
        # nothing seeds a program where its log density is computed
        self.without_key |= msg["type"] == "prng_key" and msg["value"] is None


def expanded_batch(distribution: Distribution, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the batch shape that gives each of many values a distribution of its own.

    None where the distribution has that batch shape already, or values of this shape are no
    repetition of it.
    """
    if is_factor(distribution):
        return None
    events = len(distribution.event_shape)
    batch = shape[: len(shape) - events]
    if len(shape) < events or shape[len(shape) - events :] != distribution.event_shape:
        return None
    try:
        fits = np.broadcast_shapes(batch, distribution.batch_shape) == batch
    except ValueError:
        return None
    return batch if fits and batch != distribution.batch_shape else None


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
        """Take the batch's rows of values that `Problem.with_observations` set for all rows."""
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

    def __init__(self, program: Program, params: Mapping[str, PyTree]) -> None:
        super().__init__(program)
        self.params = params

    def process_message(self, msg: Message) -> None:
        if msg["type"] == "param" and msg["name"] in self.params:
            msg["value"] = self.params[msg["name"]]
