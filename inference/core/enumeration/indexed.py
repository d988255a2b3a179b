"""Programs whose discrete sites are indices 0, 1, ... of their values, as NumPyro draws them.

NumPyro's samplers of discrete sites propose 0, 1, ..., K - 1 for a site of K values, whatever its
values are. Here a site of the values 1, ..., 12 proposes their indices, each entry of a
binomial site has its own bounds, and an event of several entries (`to_event`) is one entry
after another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution, constraints
from numpyro.primitives import Messenger

from inference.core.problem import Problem
from inference.core.program import Message
from inference.core.typing import Program, SiteArrays
from inference.tracing import trace_abstractly
from inference.wrappers import innermost


@dataclasses.dataclass(frozen=True)
class Range:
    """The values low, low + 1, ..., low + count - 1 of a discrete site.

    Attributes:
        low: the smallest value.
        count: the number of values.
        cut: whether the site may have larger values, which are left out.
    """

    low: int
    count: int
    cut: bool = False


def range_of(distribution: Distribution, largest: int | None = None) -> Range | str:
    """Return the values of a discrete distribution, or why they cannot be drawn in turn.

    Args:
        distribution: the distribution of a discrete site.
        largest: the largest value of a site without a known bound.
    """
    inner = innermost(distribution)
    kind = type(inner).__name__
    support: Any = inner.support
    if inner.event_shape or getattr(support, "event_dim", 0):
        return f"its values are whole vectors ({kind}), which it does not draw"
    if isinstance(support, type(constraints.boolean)):
        return Range(0, 2)
    low, high = (getattr(support, f"{side}_bound", None) for side in ("lower", "upper"))
    low, high = _known(low), _known(high)
    if low is None:
        return f"its smallest value ({kind}) is not known before the program runs"
    least = int(low.min())
    if high is not None:
        return Range(least, int(high.max()) - least + 1)
    if largest is not None and largest >= least:
        return Range(least, largest - least + 1, cut=True)
    many = "infinitely many values" if not hasattr(support, "upper_bound") else "no known bound"
    got = "" if largest is None else f", and largest={largest} is below its smallest value {least}"
    return (
        f"it has {many} ({kind}){got}. Give the largest value that counts, as in "
        "bdl.Gibbs(largest=200): larger ones are left out, and post.diagnose() says whether draws "
        "come near it; or sum it out of the program by hand"
    )


def _known(bound: Any) -> np.ndarray | None:
    """Return a bound as an array where it is known before the program runs."""
    if bound is None or isinstance(bound, Tracer):
        return None
    return np.asarray(bound)


class Indexed(Distribution):
    """The distribution of the index of a discrete value, entry by entry."""

    pytree_data_fields = ("base",)
    pytree_aux_fields = ("range",)
    has_enumerate_support = True

    def __init__(self, base: Distribution, values: Range) -> None:
        self.base, self.range = base, values
        super().__init__(tuple(base.batch_shape), tuple(base.event_shape))

    @property
    def support(self) -> Any:
        """The support of the values."""
        return self.base.support

    def value_of(self, index: jax.Array) -> jax.Array:
        """Return the value of an index."""
        return index + self.range.low

    def enumerate_support(self, expand: bool = True) -> jax.Array:
        """Return the indices; their number counts."""
        return jnp.arange(self.range.count)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw the index of a value from the distribution of values."""
        assert key is not None
        drawn = jnp.asarray(self.base.sample(key, sample_shape)).astype(int)
        return jnp.clip(drawn - self.range.low, 0, self.range.count - 1)

    def log_prob(self, value: jax.Array, intermediates: object = None) -> jax.Array:
        """Return the log probability of the value with this index; -inf outside the support."""
        values = self.value_of(jnp.asarray(value))
        inside = jnp.asarray(self.support(values))
        return jnp.where(inside, jnp.asarray(self.base.log_prob(values)), -jnp.inf)

    def expand(self, batch_shape: tuple[int, ...]) -> Indexed:
        return Indexed(self.base.expand(batch_shape), self.range)


class ByIndices(Messenger):
    """A program whose discrete sites are indices to handlers outside, and values inside.

    Args:
        program: the program.
        sites: the names of the sites.
        largest: the largest value of sites without a known bound.
        ranges: what is found of the values of the sites when the program runs.

    Raises:
        ValueError: when it runs, naming a site whose values cannot be drawn in turn, and why.
    """

    def __init__(
        self,
        program: Program | None,
        sites: Collection[str],
        largest: int | None,
        ranges: dict[str, Range],
    ) -> None:
        super().__init__(program)
        self.sites, self.largest, self.ranges = sites, largest, ranges

    def process_message(self, msg: Message) -> None:
        if msg["type"] == "control_flow":
            rest = self.sites, self.largest, self.ranges
            msg["args"] = tuple(
                ByIndices(part, *rest) if callable(part) else part for part in msg["args"]
            )
        if msg["type"] == "sample" and msg["name"] in self.sites and msg["value"] is None:
            # bounds are known here, and traced once a scan has run
            values = range_of(msg["fn"], self.largest)
            if isinstance(values, str):
                raise ValueError(f"latent site '{msg['name']}' is discrete, and {values}")
            self.ranges[msg["name"]] = values
            # a site that is drawn is not summed out too
            marks = {name: mark for name, mark in msg["infer"].items() if name != "enumerate"}
            msg["infer"] = marks
            msg["fn"] = Indexed(msg["fn"], values)

    def postprocess_message(self, msg: Message) -> None:
        if msg["type"] == "sample" and isinstance(msg["fn"], Indexed):
            # what handlers outside have kept is the index
            msg["value"] = msg["fn"].value_of(msg["value"])


def indexed(problem: Problem, largest: int | None = None) -> ByIndices:
    """Return the program with the indices of its discrete latent sites, whose values are known.

    Raises:
        ValueError: naming a site whose values cannot be drawn in turn, and why.
    """
    program = ByIndices(problem.program, problem.discrete_latents, largest, {})
    trace_abstractly(program, problem.args, problem.kwargs)
    return program


def values_at(problem: Problem, ranges: Mapping[str, Range], sites: SiteArrays) -> SiteArrays:
    """Return sites with the values of discrete ones in the place of their indices."""
    values = {
        name: (sites[name] + values.low).astype(problem.trace[name]["value"].dtype)
        for name, values in ranges.items()
    }
    return sites | values
