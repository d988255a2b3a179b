"""What an objective is given: a model and a guide that can be drawn from and evaluated."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg

from inference.problem import ProblemError, Program
from inference.vi.expectation import Pass, current

Values = Mapping[str, Any]
Lanes = tuple[int, ...]


class Particles(dict):
    """The draws of `sim(K)` while some stand in the place of others, for leave-one-out baselines.

    Densities of draws are then those of the draws as they were made, in other places, and cost nothing.

    Args:
        values: by site, leading axis over places.
        made: the same as they were made.
        places: which of those stands in each place.
    """

    def __init__(self, values: Mapping, made: Mapping, places: jax.Array) -> None:
        super().__init__(values)
        self.made, self.places = made, places


jax.tree_util.register_pytree_node(
    Particles,
    lambda particles: ((dict(particles), particles.made, particles.places), None),
    lambda _, parts: Particles(*parts),
)


class AbstractHandle(abc.ABC):
    """A distribution over latent sites, known by its program."""

    def sim(self, K: int | None = None, *, pathwise: bool = False) -> tuple[Values, jax.Array]:
        """Draws, and the log density of the draw (or what stands for it, where sites are integrated out).

        Args:
            K: independent draws made side by side; without it one draw and no leading axis.
            pathwise: refuse sites whose gradient does not pass through their value.

        Returns:
            Values by site, shape (K, *site shape), and log densities, shape (K,).
        """
        now, lanes = current(), lanes_of(K)
        label, before = now.next(), len(now.sites)
        values, log_q = self.draw(now, label, lanes, label if lanes else None)
        if pathwise and len(now.sites) > before:
            raise ProblemError(
                f"This objective needs Reparam() at every site, and {now.sites[before].id} has another estimator."
            )
        if label not in now.swaps:
            return values, log_q
        places = now.swaps[label]
        return Particles(jax.tree.map(lambda leaf: leaf[places], values), values, places), log_q[places]

    def density(self, values: Values, K: int | None = None, *, fixed: bool = False) -> jax.Array:
        """The log density of values of the latent sites, jointly with the data; an estimate where sites are integrated out.

        Args:
            values: by site; auxiliary sites of a guide are left out of account.
            K: length of the leading axis, where there is one.
            fixed: whether parameters are constants, so that gradients pass through the values only.

        Returns:
            A scalar, or shape (K,).

        Raises:
            ProblemError: where a latent site has no value, or a value has no site.
        """
        now, lanes = current(), lanes_of(K)
        label = now.next()
        for name, value in values.items():
            if lanes and jnp.shape(value)[:1] != lanes:
                raise ProblemError(f"density(values, K={K}): site '{name}' has shape {jnp.shape(value)}, expected ({K}, ...).")
        if isinstance(values, Particles) and lanes:
            return self.evaluate(now, label, values.made, lanes, fixed)[values.places]
        return self.evaluate(now, label, {name: jnp.asarray(value) for name, value in values.items()}, lanes, fixed)

    @abc.abstractmethod
    def draw(self, now: Pass, label: str, lanes: Lanes, group: str | None, detached: bool = False) -> tuple[dict, jax.Array]:
        """Values and log densities, leading axes over lanes."""

    @abc.abstractmethod
    def evaluate(self, now: Pass, label: str, values: Values, lanes: Lanes, fixed: bool = False) -> jax.Array:
        """Log densities, leading axes of values over lanes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Handle(AbstractHandle):
    """A NumPyro program.

    Attributes:
        program: as the user wrote it.
    """

    program: Program

    def draw(self, now: Pass, label: str, lanes: Lanes, group: str | None, detached: bool = False) -> tuple[dict, jax.Array]:
        outcome = now.run(self.program, label, lanes=lanes, group=group, detached=detached)
        return outcome.values, total(outcome.log_probs, lanes)

    def evaluate(self, now: Pass, label: str, values: Values, lanes: Lanes, fixed: bool = False) -> jax.Array:
        return total(self.log_probs(now, label, values, lanes, fixed)[0], lanes)

    def parts(self, values: Values, K: int | None = None) -> tuple[jax.Array, jax.Array]:
        """`density`, parted into that of the latent sites and that of the data given them."""
        now, lanes = current(), lanes_of(K)
        made = values.made if isinstance(values, Particles) and lanes else {n: jnp.asarray(v) for n, v in values.items()}
        log_probs, latent = self.log_probs(now, now.next(), made, lanes, False)
        prior = total({n: v for n, v in log_probs.items() if n in latent}, lanes)
        likelihood = total({n: v for n, v in log_probs.items() if n not in latent}, lanes)
        if isinstance(values, Particles) and lanes:
            return prior[values.places], likelihood[values.places]
        return prior, likelihood

    def log_probs(self, now: Pass, label: str, values: Values, lanes: Lanes, fixed: bool) -> tuple[dict, set[str]]:
        """Log densities of all sites, and the names of the latent ones."""
        outcome = now.run(self.program, label, given=values, lanes=lanes, fixed=fixed)
        missing = set(outcome.values) - set(outcome.given)
        unknown = set(values) - set(outcome.given) - now.auxiliary
        if missing or unknown:
            raise ProblemError(mismatch(missing, unknown))
        return outcome.log_probs, set(outcome.values)


def mismatch(missing: set[str], unknown: set[str]) -> str:
    """What is wrong with the sites whose values were given."""
    parts = [f"site {sorted(missing)[0]!r} has no value"] * bool(missing) + [
        f"the program has no latent site {sorted(unknown)[0]!r}"
    ] * bool(unknown)
    return (
        f"density: {', and '.join(parts)}. A guide must draw exactly the latent sites of the model; mark a site that only the "
        "guide has with infer={'is_auxiliary': True}, or integrate it out with bdl.vi.marginal(guide, keep=[...])."
    )


def lanes_of(K: int | None) -> Lanes:
    if K is None:
        return ()
    if not isinstance(K, int) or K < 1:
        raise ProblemError(f"K={K!r}: expected a whole number of draws, at least 1.")
    return (K,)


def total(log_probs: Values, lanes: Lanes) -> jax.Array:
    return sum(log_probs.values(), jnp.zeros(lanes))


def as_handle(program: Any) -> AbstractHandle:
    """A handle as it is, a NumPyro program as a `Handle`."""
    return program if isinstance(program, AbstractHandle) else Handle(program)


def detached(tree: Any, wanted: bool) -> Any:
    return sg(tree) if wanted else tree
