"""Distributions made from programs: some sites integrated out, or a posterior approximated by weighted draws.

Their densities are estimates, w, with the two contracts that make objectives right (pseudo-marginal methods):

    density(x) = log w  with  E[w] = q(x);      sim() = (x, log w)  with  E[1 / w | x] = 1 / q(x).

References: Andrieu and Roberts (2009); Becker et al. (2024), PLDI; Sobolev and Vetrov (2019), arXiv:1905.11327.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.lax import stop_gradient as sg
from jax.scipy.special import logsumexp

from inference.core.problem import ProblemError
from inference.core.program import Program
from inference.vi.distributions import (
    AbstractProgramDistribution,
    BatchShape,
    ProgramDistribution,
    Values,
    as_distribution,
    batch_shape_of,
    describe_mismatch,
    sum_log_probs,
)
from inference.vi.gradients.runs import ObjectiveRun, current_run


def marginal(
    program: Any, keep: Sequence[str], reverse: Program | None = None, N: int = 1
) -> Marginal:
    """The distribution of some sites of a program, its other sites u integrated out by importance sampling.

    With r(u | x) the reverse kernel, density(x) is log (1/N) sum_i q(u_i, x) / r(u_i | x) over u_i ~ r, and sim() has one of
    the u_i replaced by the u that x was drawn with.

    Args:
        program: a NumPyro program, or the handle of one.
        keep: names of the sites x.
        reverse: a NumPyro program that draws u; it is called with the dictionary of x and then the program's arguments.
            None for the program's own draws of u given x in the place of what it would draw.
        N: how many u.

    Raises:
        ProblemError: for what is not a program, no site, or an impossible N.
    """
    handle = as_distribution(program)
    if not isinstance(handle, ProgramDistribution):
        raise ProblemError(
            f"marginal({type(handle).__name__}): expected a NumPyro program or the handle of one."
        )
    if isinstance(keep, str) or not keep:
        raise ProblemError(
            f"marginal(keep={keep!r}): expected the names of the sites to keep, e.g. keep=['x', 'y']."
        )
    batch_shape_of(N)
    return Marginal(handle.program, tuple(keep), reverse, N)


@dataclasses.dataclass(frozen=True, eq=False)
class Marginal(AbstractProgramDistribution):
    """See `marginal`."""

    program: Program
    keep: tuple[str, ...]
    reverse: Program | None
    N: int

    def draw(
        self,
        now: ObjectiveRun,
        label: str,
        lanes: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        outcome = now.run(self.program, label, lanes=lanes, group=group, detached=detached)
        absent = set(self.keep) - set(outcome.values)
        if absent:
            raise ProblemError(
                f"marginal(keep={list(self.keep)}): the program has no latent site {sorted(absent)[0]!r}, only "
                f"{sorted(outcome.values)}."
            )
        x = {name: outcome.values[name] for name in self.keep}
        u = {name: value for name, value in outcome.values.items() if name not in self.keep}
        if self.reverse is None:
            own = sum_log_probs({n: v for n, v in outcome.log_probs.items() if n not in u}, lanes)
        else:
            back = now.run(self.reverse, f"{label} retained", given=u, lanes=lanes, inputs=(x,))
            refuse_other_sites(set(u), set(back.values))
            own = sum_log_probs(outcome.log_probs, lanes) - sum_log_probs(back.log_probs, lanes)
        if self.N == 1:
            return x, own
        others = self.fresh_log_weights(
            now, f"{label} others", x, lanes, self.N - 1, group, detached
        )
        return x, logsumexp(jnp.concatenate([own[..., None], others], -1), -1) - math.log(self.N)

    def evaluate(
        self, now: ObjectiveRun, label: str, values: Values, lanes: BatchShape, fixed: bool = False
    ) -> jax.Array:
        unknown, missing = (
            set(values) - set(self.keep) - now.auxiliary,
            set(self.keep) - set(values),
        )
        if unknown or missing:
            raise ProblemError(describe_mismatch(missing, unknown))
        x = {name: values[name] for name in self.keep}
        weights = self.fresh_log_weights(now, label, x, lanes, self.N, None, False, fixed)
        return logsumexp(weights, -1) - math.log(self.N)

    def fresh_log_weights(
        self,
        now: ObjectiveRun,
        label: str,
        x: Values,
        lanes: BatchShape,
        N: int,
        group: str | None,
        detached: bool,
        fixed: bool = False,
    ) -> jax.Array:
        """Log q(u_i, x) / r(u_i | x) of N fresh u, shape (*lanes, N)."""
        inner = (*lanes, N)
        x = {name: repeat_in_batch(value, lanes, N) for name, value in x.items()}
        how: dict[str, Any] = {"lanes": inner, "detached": detached, "fixed": fixed}
        if self.reverse is None:
            outcome = now.run(self.program, label, given=x, group=group, **how)
            return sum_log_probs(
                {n: v for n, v in outcome.log_probs.items() if n not in outcome.values or n in x},
                inner,
            )
        back = now.run(self.reverse, f"{label} reverse", inputs=(x,), group=group, **how)
        outcome = now.run(self.program, label, given=x | back.values, **how)
        refuse_other_sites(set(outcome.values) - set(x), set(back.values))
        return sum_log_probs(outcome.log_probs, inner) - sum_log_probs(back.log_probs, inner)


def refuse_other_sites(left_out: set[str], drawn: set[str]) -> None:
    """Refuses a reverse kernel that does not draw the sites that are integrated out.

    Raises:
        ProblemError: naming both.
    """
    if left_out != drawn:
        raise ProblemError(
            f"marginal(reverse=...): it draws {sorted(drawn)}, expected the sites left out, {sorted(left_out)}."
        )


def normalize(p: Any, proposal: Any, K: int, detach: bool = True) -> Normalized:
    """The posterior of p, approximated by resampling one of K draws of a proposal by its importance weight.

    Args:
        p: handle of the model (or its program), whose density with the data is normalised.
        proposal: handle or program that draws the latent sites of p.
        K: draws.
        detach: whether the draws and weights carry no gradient, as reweighted wake-sleep wants of `particles`; to draw from
            it or take its density in an objective needs detach=False.
    """
    batch_shape_of(K)
    return Normalized(as_distribution(p), as_distribution(proposal), K, detach)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalized(AbstractProgramDistribution):
    """See `normalize`."""

    p: AbstractProgramDistribution
    proposal: AbstractProgramDistribution
    K: int
    detach: bool

    def particles(self) -> tuple[Values, jax.Array]:
        """The K draws, leading axis over draws, and their log weights log p(z) - log q(z), shape (K,)."""
        now = current_run()
        values, log_w, _ = self.draw_weighted(now, now.next_label(), (), self.K)
        return values, log_w

    def draw_weighted(
        self, now: ObjectiveRun, label: str, lanes: BatchShape, many: int, group: str | None = None
    ) -> tuple[dict, jax.Array, jax.Array]:
        """Draws, log weights and log densities under p, leading axes over lanes and draws."""
        inner = (*lanes, many)
        values, log_q = self.proposal.draw(now, f"{label} proposal", inner, group, self.detach)
        log_p = self.p.evaluate(now, f"{label} target", values, inner)
        log_w = log_p - log_q
        return values, sg(log_w) if self.detach else log_w, log_p

    def refuse_detached(self) -> None:
        """Refuses a term of an objective that would have half its gradient.

        Raises:
            ProblemError: naming the cure.
        """
        if self.detach:
            raise ProblemError(
                "normalize(..., detach=True) gives particles() only; draw from it with detach=False."
            )

    def draw(
        self,
        now: ObjectiveRun,
        label: str,
        lanes: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        self.refuse_detached()
        values, log_w, log_p = self.draw_weighted(now, label, lanes, self.K, group)
        outcome = now.run(
            choose_particle,
            f"{label} choice",
            lanes=lanes,
            inputs=(log_w,),
            group=group,
            detached=detached,
        )
        index = outcome.values["index"][..., None]

        def take(leaf: jax.Array) -> jax.Array:
            events = index.reshape(*index.shape, *(1,) * (leaf.ndim - index.ndim))
            return jnp.take_along_axis(leaf, events, len(lanes)).squeeze(len(lanes))

        return jax.tree.map(take, values), take(log_p) - (logsumexp(log_w, -1) - math.log(self.K))

    def evaluate(
        self, now: ObjectiveRun, label: str, values: Values, lanes: BatchShape, fixed: bool = False
    ) -> jax.Array:
        self.refuse_detached()
        log_p = self.p.evaluate(now, f"{label} given", values, lanes, fixed)
        log_w = (
            log_p - self.proposal.evaluate(now, f"{label} given proposal", values, lanes, fixed)
        )[..., None]
        if self.K > 1:
            _, others, _ = self.draw_weighted(now, f"{label} others", lanes, self.K - 1)
            log_w = jnp.concatenate([log_w, others], -1)
        return log_p - (logsumexp(log_w, -1) - math.log(self.K))


def choose_particle(log_w: jax.Array, *args: Any, **kwargs: Any) -> None:
    """Draws which of the particles is taken."""
    numpyro.sample("index", dist.CategoricalLogits(log_w))


def repeat_in_batch(value: jax.Array, lanes: BatchShape, N: int) -> jax.Array:
    """The value with an axis of N copies after the lanes."""
    shape = jnp.shape(value)
    return jnp.broadcast_to(jnp.expand_dims(value, len(lanes)), (*lanes, N, *shape[len(lanes) :]))
