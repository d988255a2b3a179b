"""The two arguments of an objective: a model and a guide that can be drawn and evaluated."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from types import EllipsisType
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp

from inference.core.problem import ProblemError
from inference.core.typing import Program, SiteArrays
from inference.settings import is_whole
from inference.vi.gradients.programs import BatchShape
from inference.vi.gradients.runs import ObjectiveRun, current_run

Values: TypeAlias = Mapping[str, Any]
"""Values of latent sites by name."""

Places: TypeAlias = jax.Array | EllipsisType
"""Which of several draws stands in each place; `...` if all are where they were drawn."""


class Particles(dict):
    """The draws of `sim(K)`, of which some may stand in the place of others.

    That is how leave-one-out baselines overwrite draws. The densities are then those of the draws
    as they were made, in other places, and cost nothing.

    Args:
        values: the values by site, with a leading axis over places.
        drawn: the same values as they were drawn.
        places: which of those stands in each place.
    """

    def __init__(self, values: Mapping, drawn: Mapping, places: Places) -> None:
        super().__init__(values)
        self.handed, self.drawn, self.places = dict(values), drawn, places

    def is_unchanged(self) -> bool:
        """Return whether these are still the values that were handed out."""
        return self.keys() == self.handed.keys() and all(
            self[name] is value for name, value in self.handed.items()
        )


# what a function makes of particles is an ordinary dictionary, as it may be anything
jax.tree_util.register_pytree_node(
    Particles,
    lambda particles: (tuple(particles.values()), tuple(particles)),
    lambda names, parts: cast(Any, dict(zip(names, parts, strict=True))),
)


def _values_as_drawn(values: Values, batch_shape: BatchShape) -> tuple[dict, Places]:
    """Return values to evaluate, and where to find the result.

    Draws that were handed out are evaluated as they were drawn.
    """
    if isinstance(values, Particles) and values.is_unchanged():
        if not batch_shape:
            raise ProblemError(
                "density of several draws: give their number too, density(z, K) after "
                "z, log_q = q.sim(K)."
            )
        return dict(values.drawn), values.places
    return {name: jnp.asarray(value) for name, value in values.items()}, ...


class AbstractProgramDistribution(abc.ABC):
    """A distribution over latent sites, known by its program."""

    def sim(self, K: int | None = None, *, pathwise: bool = False) -> tuple[Values, jax.Array]:
        """Draw values of the latent sites, and return them with their log density.

        If sites are integrated out, the log density is an estimate that stands for it.

        Args:
            K: the number of independent draws, made side by side; None for one draw without a
                leading axis.
            pathwise: whether to refuse sites whose gradient does not pass through their value.

        Returns:
            Values by site, shape (K, *site shape), and log densities, shape (K,).
        """
        run, batch_shape = current_run(), batch_shape_of(K)
        label, before = run.next_label(), len(run.sites)
        self.refuse_estimates(pathwise, "pathwise")
        values, log_q = self.draw(run, label, batch_shape, label if batch_shape else None)
        if pathwise and len(run.sites) > before:
            raise ProblemError(
                f"This objective needs Reparam() at every site, and {run.sites[before].id} has "
                "another estimator."
            )
        if label not in run.swaps:
            return Particles(values, values, ...) if batch_shape else values, log_q
        places = run.swaps[label]
        moved = jax.tree.map(lambda leaf: leaf[places], values)
        return Particles(moved, values, places), log_q[places]

    def density(self, values: Any, K: int | None = None, *, fixed: bool = False) -> jax.Array:
        """Return the log density of values of the latent sites, jointly with the data.

        It is an estimate if sites are integrated out.

        Args:
            values: the values by site. The auxiliary site that an autoguide computes the others
                from is left out of account.
            K: the length of the leading axis, or None if there is no such axis.
            fixed: whether parameters are constants, so that gradients pass through the values
                only.

        Returns:
            A scalar, or shape (K,).

        Raises:
            ProblemError: if a latent site has no value, or a value has no site.
        """
        run, batch_shape = current_run(), batch_shape_of(K)
        label = run.next_label()
        if not isinstance(values, Mapping):
            raise ProblemError(
                f"density(values) got a {type(values).__name__}, expected values by site; sim "
                "gives two things, z, log_q = q.sim()."
            )
        self.refuse_estimates(fixed, "fixed")
        for name, value in values.items():
            if batch_shape and jnp.shape(value)[:1] != batch_shape:
                raise ProblemError(
                    f"density(values, K={K}): site '{name}' has shape {jnp.shape(value)}, "
                    f"expected ({K}, ...)."
                )
        drawn, places = _values_as_drawn(values, batch_shape)
        return self.evaluate(run, label, drawn, batch_shape, fixed)[places]

    def refuse_estimates(self, wanted: bool, what: str) -> None:
        """Refuse a call that makes no sense if densities are estimates: two differ by chance.

        Raises:
            ProblemError: naming the distribution.
        """
        if wanted and not isinstance(self, ProgramDistribution):
            raise ProblemError(
                f"{what}=True needs an exact density, and that of {type(self).__name__} is an "
                "estimate."
            )

    @abc.abstractmethod
    def draw(
        self,
        run: ObjectiveRun,
        label: str,
        batch_shape: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        """Return values and log densities, with leading axes `batch_shape`.

        Args:
            run: the run of the objective.
            label: the label of this draw.
            batch_shape: the shape of the copies that are drawn side by side.
            group: the label of draws made side by side, or None.
            detached: whether no gradient passes through the draws.
        """

    @abc.abstractmethod
    def evaluate(
        self,
        run: ObjectiveRun,
        label: str,
        values: Values,
        batch_shape: BatchShape,
        fixed: bool = False,
    ) -> jax.Array:
        """Return log densities of values with leading axes `batch_shape`."""


@dataclasses.dataclass(frozen=True, eq=False)
class ProgramDistribution(AbstractProgramDistribution):
    """The distribution over the latent sites of a NumPyro program.

    Attributes:
        program: the program, as the user wrote it.
    """

    program: Program

    def draw(
        self,
        run: ObjectiveRun,
        label: str,
        batch_shape: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        outcome = run.run(
            self.program, label, batch_shape=batch_shape, group=group, detached=detached
        )
        latent = {n: v for n, v in outcome.log_probs.items() if n in outcome.values}
        return outcome.values, sum_log_probs(latent, batch_shape)

    def evaluate(
        self,
        run: ObjectiveRun,
        label: str,
        values: Values,
        batch_shape: BatchShape,
        fixed: bool = False,
    ) -> jax.Array:
        log_probs, _ = self.log_probs(run, label, values, batch_shape, fixed)
        return sum_log_probs(log_probs, batch_shape)

    def parts(self, values: Values, K: int | None = None) -> tuple[jax.Array, jax.Array]:
        """Split `density` into the density of the latent sites and that of the data given them."""
        run, batch_shape = current_run(), batch_shape_of(K)
        drawn, places = _values_as_drawn(values, batch_shape)
        log_probs, latent = self.log_probs(run, run.next_label(), drawn, batch_shape, False)
        prior = {n: v for n, v in log_probs.items() if n in latent}
        likelihood = {n: v for n, v in log_probs.items() if n not in latent}
        log_prior = sum_log_probs(prior, batch_shape)
        return log_prior[places], sum_log_probs(likelihood, batch_shape)[places]

    def log_probs(
        self, run: ObjectiveRun, label: str, values: Values, batch_shape: BatchShape, fixed: bool
    ) -> tuple[SiteArrays, set[str]]:
        """Return log densities of all sites, and the names of the latent ones."""
        outcome = run.run(self.program, label, given=values, batch_shape=batch_shape, fixed=fixed)
        missing = set(outcome.values) - set(outcome.given)
        unknown = set(values) - set(outcome.given) - run.auxiliary
        if missing or unknown:
            raise ProblemError(describe_mismatch(missing, unknown))
        return outcome.log_probs, set(outcome.values)


def describe_mismatch(missing: set[str], unknown: set[str]) -> str:
    """Return what is wrong with the sites whose values were given."""
    parts = [f"site {name!r} has no value" for name in sorted(missing)[:1]]
    parts += [f"the program has no latent site {name!r}" for name in sorted(unknown)[:1]]
    return (
        f"density: {', and '.join(parts)}. A guide must draw exactly the latent sites of the "
        "model; integrate out what only the guide has with bdl.vi.marginal(guide, keep=[...])."
    )


def batch_shape_of(K: int | None) -> BatchShape:
    """Return the shape of K draws made side by side; () for one draw."""
    if K is None:
        return ()
    if not is_whole(K):
        raise ProblemError(f"K={K!r}: expected a whole number of draws, at least 1.")
    return (K,)


def sum_log_probs(log_probs: Mapping[str, jax.Array], batch_shape: BatchShape) -> jax.Array:
    """Return the sum over sites, shape `batch_shape`."""
    return sum(log_probs.values(), jnp.zeros(batch_shape))


def as_distribution(
    program: Program | AbstractProgramDistribution,
) -> AbstractProgramDistribution:
    """Return a distribution as it is, and a NumPyro program as a `ProgramDistribution`."""
    if isinstance(program, AbstractProgramDistribution):
        return program
    return ProgramDistribution(program)
