"""Handlers that hide the discrete sites of a program, or give them all their values at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers
from numpyro.distributions import Distribution
from numpyro.primitives import Messenger

from inference.core.typing import Program


class Shown(Messenger):
    """Shows the latent sites of a program to handlers outside, without their densities.

    Sites that are summed out take their first value here, which nothing else looks at.
    """

    def __init__(
        self, program: Program | None, sites: frozenset[str], hidden: frozenset[str]
    ) -> None:
        super().__init__(program)
        self.sites, self.hidden = sites, hidden

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "control_flow":
            msg["args"] = tuple(
                Shown(part, self.sites, self.hidden) if callable(part) else part
                for part in msg["args"]
            )
        if msg.get("name") in self.sites and msg["value"] is None:
            msg["value"] = first_value(msg["fn"])
        if msg.get("name") in self.sites | self.hidden:
            msg["stop"] = True
        elif msg["type"] == "sample" and not msg["is_observed"]:
            msg["fn"] = msg["fn"].mask(False)


def support_of(distribution: Distribution) -> jax.Array:
    """Return the values that a discrete distribution can have, shape (values,)."""
    values = distribution.enumerate_support(expand=False)
    return values.reshape(values.shape[0])


def first_value(distribution: Distribution) -> jax.Array:
    """Return the first value of a distribution with finite support, in its batch shape."""
    return jnp.broadcast_to(support_of(distribution)[0], distribution.batch_shape)


def _counts_from_zero(distribution: Distribution) -> bool:
    """Whether the values of a distribution are known to be 0, 1, ..."""
    try:
        with jax.ensure_compile_time_eval():
            values = np.asarray(support_of(distribution))
    except jax.errors.JAXTypeError:
        return False
    return np.array_equal(values, np.arange(len(values)))


class ByIndex(Distribution):
    """A discrete distribution over the indices of its values, as NumPyro's enumeration takes it."""

    pytree_data_fields = ("base",)
    has_enumerate_support = True

    def __init__(self, base: Distribution) -> None:
        self.base = base
        super().__init__(base.batch_shape, ())

    @property
    def support(self) -> Any:
        """The support of the values."""
        return self.base.support

    def enumerate_support(self, expand: bool = True) -> jax.Array:
        """Return the values; their number counts."""
        return jnp.asarray(self.base.enumerate_support(expand=expand))

    def log_prob(self, value: jax.Array, intermediates: object = None) -> jax.Array:
        """Return the log probability of the value with this index."""
        return jnp.asarray(self.base.log_prob(support_of(self.base)[value]))

    def expand(self, batch_shape: tuple[int, ...]) -> ByIndex:
        return ByIndex(self.base.expand(batch_shape))


class Enumerated(Messenger):
    """Marks the sites of a program that are summed out, and gives them their values.

    NumPyro enumerates indices 0, 1, ...; a site with other values, such as
    `DiscreteUniform(1, 12)`, has a distribution of these here.
    """

    def __init__(self, program: Program | None, sites: frozenset[str]) -> None:
        super().__init__(program)
        self.sites = sites

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "control_flow":
            msg["args"] = tuple(
                Enumerated(part, self.sites) if callable(part) else part for part in msg["args"]
            )
        if msg["type"] == "sample" and msg["name"] in self.sites and msg["value"] is None:
            msg["infer"] = msg["infer"] | {"enumerate": "parallel", "summed": True}
            if not _counts_from_zero(msg["fn"]):
                msg["fn"] = ByIndex(msg["fn"])

    def postprocess_message(self, msg: dict) -> None:
        if msg["type"] == "sample" and isinstance(msg["fn"], ByIndex):
            # what the trace has kept is the index
            msg["value"] = support_of(msg["fn"].base)[msg["value"]]


# whether this thread makes the plates that enumeration knows
_here = threading.local()


@contextlib.contextmanager
def enumerated_plates() -> Iterator[None]:
    """Make the plates of this thread such that their sites can have all values at once.

    NumPyro's own context does so in all threads.
    """
    from numpyro.contrib.funsor.enum_messenger import plate as enumerated

    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        if getattr(_here, "enumerates", False):
            return enumerated(*args, **kwargs)
        return object.__new__(cls)

    _here.enumerates, numpyro.plate.__new__ = True, make
    try:
        yield
    finally:
        _here.enumerates = False


def packed_trace() -> type[handlers.trace]:
    """Return the handler that notes which dimension of a site is which plate or site."""
    from numpyro.contrib.funsor.enum_messenger import _DIM_STACK

    class Packed(handlers.trace):
        """NumPyro's own notes all dimensions as plates; here batches without plate may be."""

        def postprocess_message(self, msg: dict) -> None:
            if msg["type"] != "sample":
                return
            batch = jnp.shape(msg["value"])[: jnp.ndim(msg["value"]) - msg["fn"].event_dim]
            shape = jax.lax.broadcast_shapes(tuple(msg["fn"].batch_shape), batch)
            here = _DIM_STACK.current_frame
            frames = (here, *here.parents, *here.iter_parents, _DIM_STACK.global_frame)
            names = {}
            for dim in range(-len(shape), 0):
                if shape[dim] > 1:
                    known = (f.dim_to_name[dim] for f in frames if dim in f.dim_to_name)
                    names[dim] = next(known, f"_batch_{-dim}")
            msg["infer"] = msg["infer"] | {"names": names}
            super().postprocess_message(msg)

    return Packed
