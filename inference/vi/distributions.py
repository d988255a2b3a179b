"""What an objective is given: a model and a guide that can be drawn from and evaluated."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from inference.core.problem import ProblemError
from inference.core.program import Program
from inference.vi.gradients.runs import ObjectiveRun, current_run

Values = Mapping[str, Any]
BatchShape = tuple[int, ...]


class Particles(dict):
    """The draws of `sim(K)`, of which some may stand in the place of others, for leave-one-out baselines.

    Their densities are then those of the draws as they were made, in other places, and cost nothing.

    Args:
        values: by site, leading axis over places.
        made: the same as they were made.
        places: which of those stands in each place; `...` where all are where they were made.
    """

    def __init__(self, values: Mapping, made: Mapping, places: Any) -> None:
        super().__init__(values)
        self.handed, self.made, self.places = dict(values), made, places

    def is_unchanged(self) -> bool:
        """Whether these are still the values that were handed out."""
        return self.keys() == self.handed.keys() and all(
            self[name] is value for name, value in self.handed.items()
        )


# what a function makes of them is an ordinary dictionary, as it may be anything
jax.tree_util.register_pytree_node(
    Particles,
    lambda particles: (tuple(particles.values()), tuple(particles)),
    lambda names, parts: dict(zip(names, parts, strict=True)),  # pyright: ignore[reportArgumentType]
)


def values_as_drawn(values: Values, lanes: BatchShape) -> tuple[dict, Any]:
    """Values to evaluate, and where to find the result: draws that were handed out are evaluated as they were made."""
    if isinstance(values, Particles) and values.is_unchanged():
        if not lanes:
            raise ProblemError(
                "density of several draws: give their number too, density(z, K) after z, log_q = q.sim(K)."
            )
        return dict(values.made), values.places
    return {name: jnp.asarray(value) for name, value in values.items()}, ...


class AbstractProgramDistribution(abc.ABC):
    """A distribution over latent sites, known by its program."""

    def sim(self, K: int | None = None, *, pathwise: bool = False) -> tuple[Values, jax.Array]:
        """Draws, and the log density of the draw (or what stands for it, where sites are integrated out).

        Args:
            K: independent draws made side by side; without it one draw and no leading axis.
            pathwise: refuse sites whose gradient does not pass through their value.

        Returns:
            Values by site, shape (K, *site shape), and log densities, shape (K,).
        """
        now, lanes = current_run(), batch_shape_of(K)
        label, before = now.next_label(), len(now.sites)
        self.refuse_estimates(pathwise, "pathwise")
        values, log_q = self.draw(now, label, lanes, label if lanes else None)
        if pathwise and len(now.sites) > before:
            raise ProblemError(
                f"This objective needs Reparam() at every site, and {now.sites[before].id} has another estimator."
            )
        if label not in now.swaps:
            return Particles(values, values, ...) if lanes else values, log_q
        places = now.swaps[label]
        return Particles(jax.tree.map(lambda leaf: leaf[places], values), values, places), log_q[
            places
        ]

    def density(self, values: Any, K: int | None = None, *, fixed: bool = False) -> jax.Array:
        """The log density of values of the latent sites, jointly with the data; an estimate where sites are integrated out.

        Args:
            values: by site; the auxiliary site that an autoguide computes the others from is left out of account.
            K: length of the leading axis, where there is one.
            fixed: whether parameters are constants, so that gradients pass through the values only.

        Returns:
            A scalar, or shape (K,).

        Raises:
            ProblemError: where a latent site has no value, or a value has no site.
        """
        now, lanes = current_run(), batch_shape_of(K)
        label = now.next_label()
        if not isinstance(values, Mapping):
            raise ProblemError(
                f"density(values) got a {type(values).__name__}, expected values by site; sim gives two things, "
                "z, log_q = q.sim()."
            )
        self.refuse_estimates(fixed, "fixed")
        for name, value in values.items():
            if lanes and jnp.shape(value)[:1] != lanes:
                raise ProblemError(
                    f"density(values, K={K}): site '{name}' has shape {jnp.shape(value)}, expected ({K}, ...)."
                )
        made, places = values_as_drawn(values, lanes)
        return self.evaluate(now, label, made, lanes, fixed)[places]

    def refuse_estimates(self, wanted: bool, what: str) -> None:
        """Refuses a call that makes no sense where densities are estimates: two of them differ by chance.

        Raises:
            ProblemError: naming the handle.
        """
        if wanted and not isinstance(self, ProgramDistribution):
            raise ProblemError(
                f"{what}=True needs an exact density, and that of {type(self).__name__} is an estimate."
            )

    @abc.abstractmethod
    def draw(
        self,
        now: ObjectiveRun,
        label: str,
        lanes: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        """Values and log densities, leading axes over lanes."""

    @abc.abstractmethod
    def evaluate(
        self, now: ObjectiveRun, label: str, values: Values, lanes: BatchShape, fixed: bool = False
    ) -> jax.Array:
        """Log densities, leading axes of values over lanes."""


@dataclasses.dataclass(frozen=True, eq=False)
class ProgramDistribution(AbstractProgramDistribution):
    """A NumPyro program.

    Attributes:
        program: as the user wrote it.
    """

    program: Program

    def draw(
        self,
        now: ObjectiveRun,
        label: str,
        lanes: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        outcome = now.run(self.program, label, lanes=lanes, group=group, detached=detached)
        return outcome.values, sum_log_probs(
            {n: v for n, v in outcome.log_probs.items() if n in outcome.values}, lanes
        )

    def evaluate(
        self, now: ObjectiveRun, label: str, values: Values, lanes: BatchShape, fixed: bool = False
    ) -> jax.Array:
        return sum_log_probs(self.log_probs(now, label, values, lanes, fixed)[0], lanes)

    def parts(self, values: Values, K: int | None = None) -> tuple[jax.Array, jax.Array]:
        """`density`, parted into that of the latent sites and that of the data given them."""
        now, lanes = current_run(), batch_shape_of(K)
        made, places = values_as_drawn(values, lanes)
        log_probs, latent = self.log_probs(now, now.next_label(), made, lanes, False)
        prior = sum_log_probs({n: v for n, v in log_probs.items() if n in latent}, lanes)
        likelihood = sum_log_probs({n: v for n, v in log_probs.items() if n not in latent}, lanes)
        return prior[places], likelihood[places]

    def log_probs(
        self, now: ObjectiveRun, label: str, values: Values, lanes: BatchShape, fixed: bool
    ) -> tuple[dict, set[str]]:
        """Log densities of all sites, and the names of the latent ones."""
        outcome = now.run(self.program, label, given=values, lanes=lanes, fixed=fixed)
        missing = set(outcome.values) - set(outcome.given)
        unknown = set(values) - set(outcome.given) - now.auxiliary
        if missing or unknown:
            raise ProblemError(describe_mismatch(missing, unknown))
        return outcome.log_probs, set(outcome.values)


def describe_mismatch(missing: set[str], unknown: set[str]) -> str:
    """What is wrong with the sites whose values were given."""
    parts = [f"site {name!r} has no value" for name in sorted(missing)[:1]]
    parts += [f"the program has no latent site {name!r}" for name in sorted(unknown)[:1]]
    return (
        f"density: {', and '.join(parts)}. A guide must draw exactly the latent sites of the model; integrate out "
        "what only the guide has with bdl.vi.marginal(guide, keep=[...])."
    )


def batch_shape_of(K: int | None) -> BatchShape:
    if K is None:
        return ()
    if not isinstance(K, int) or K < 1:
        raise ProblemError(f"K={K!r}: expected a whole number of draws, at least 1.")
    return (K,)


def sum_log_probs(log_probs: Values, lanes: BatchShape) -> jax.Array:
    return sum(log_probs.values(), jnp.zeros(lanes))


def as_distribution(program: Any) -> AbstractProgramDistribution:
    """A handle as it is, a NumPyro program as a `Handle`."""
    return (
        program
        if isinstance(program, AbstractProgramDistribution)
        else ProgramDistribution(program)
    )
