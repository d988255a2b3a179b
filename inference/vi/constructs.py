"""Distributions made from programs: some sites integrated out, or a posterior by weighted draws.

Their densities are estimates, w, with the two contracts that make objectives right
(pseudo-marginal methods):

    density(x) = log w  with  E[w] = q(x);      sim() = (x, log w)  with  E[1 / w | x] = 1 / q(x).

References: Andrieu and Roberts (2009), Annals of Statistics; Becker et al. (2024), PLDI; Sobolev
and Vetrov (2019), arXiv:1905.11327.
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
from jax.typing import ArrayLike

from inference.core.problem import ProblemError
from inference.core.typing import Program
from inference.vi.distributions import (
    AbstractProgramDistribution,
    ProgramDistribution,
    Values,
    as_distribution,
    batch_shape_of,
    describe_mismatch,
    sum_log_probs,
)
from inference.vi.gradients.programs import BatchShape
from inference.vi.gradients.runs import ObjectiveRun, current_run


def marginal(
    program: Program | AbstractProgramDistribution,
    keep: Sequence[str],
    reverse: Program | None = None,
    N: int = 1,
) -> Marginal:
    """Return the distribution of some sites x of a program, its other sites u integrated out.

    It uses importance sampling. With r(u | x) the reverse kernel, density(x) is
    log (1/N) sum_i q(u_i, x) / r(u_i | x) over u_i ~ r, and sim() has one of the u_i replaced by
    the u that x was drawn with.

    Args:
        program: a NumPyro program, or the distribution of one.
        keep: the names of the sites x.
        reverse: a NumPyro program that draws u; it is called with the dictionary of x and then
            the program's arguments. None for the program's own draws of u, given x in the place
            of what it would draw.
        N: the number of draws of u.

    Raises:
        ProblemError: for what is not a program, no site, or an impossible N.
    """
    distribution = as_distribution(program)
    if not isinstance(distribution, ProgramDistribution):
        raise ProblemError(
            f"marginal({type(distribution).__name__}): expected a NumPyro program or the "
            "distribution of one."
        )
    if isinstance(keep, str) or not keep:
        raise ProblemError(
            f"marginal(keep={keep!r}): expected the names of the sites to keep, e.g. "
            "keep=['x', 'y']."
        )
    batch_shape_of(N)
    return Marginal(distribution.program, tuple(keep), reverse, N)


@dataclasses.dataclass(frozen=True, eq=False)
class Marginal(AbstractProgramDistribution):
    """The distribution of some sites of a program; made by `marginal`.

    Attributes:
        program: the program.
        keep: the names of the sites that are kept.
        reverse: the program that draws the other sites, or None.
        N: the number of draws of the other sites.
    """

    program: Program
    keep: tuple[str, ...]
    reverse: Program | None
    N: int

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
        absent = set(self.keep) - set(outcome.values)
        if absent:
            raise ProblemError(
                f"marginal(keep={list(self.keep)}): the program has no latent site "
                f"{sorted(absent)[0]!r}, only {sorted(outcome.values)}."
            )
        x = {name: outcome.values[name] for name in self.keep}
        u = {name: value for name, value in outcome.values.items() if name not in self.keep}
        if self.reverse is None:
            given_u = {n: v for n, v in outcome.log_probs.items() if n not in u}
            own = sum_log_probs(given_u, batch_shape)
        else:
            back = run.run(
                self.reverse, f"{label} retained", given=u, batch_shape=batch_shape, inputs=(x,)
            )
            _refuse_other_sites(set(u), set(back.values))
            log_r = sum_log_probs(back.log_probs, batch_shape)
            own = sum_log_probs(outcome.log_probs, batch_shape) - log_r
        if self.N == 1:
            return x, own
        others = self.fresh_log_weights(
            run, f"{label} others", x, batch_shape, self.N - 1, group, detached
        )
        return x, logsumexp(jnp.concatenate([own[..., None], others], -1), -1) - math.log(self.N)

    def evaluate(
        self,
        run: ObjectiveRun,
        label: str,
        values: Values,
        batch_shape: BatchShape,
        fixed: bool = False,
    ) -> jax.Array:
        unknown = set(values) - set(self.keep) - run.auxiliary
        missing = set(self.keep) - set(values)
        if unknown or missing:
            raise ProblemError(describe_mismatch(missing, unknown))
        x = {name: values[name] for name in self.keep}
        log_w = self.fresh_log_weights(run, label, x, batch_shape, self.N, None, False, fixed)
        return logsumexp(log_w, -1) - math.log(self.N)

    def fresh_log_weights(
        self,
        run: ObjectiveRun,
        label: str,
        x: Values,
        batch_shape: BatchShape,
        N: int,
        group: str | None,
        detached: bool,
        fixed: bool = False,
    ) -> jax.Array:
        """Return log q(u_i, x) / r(u_i | x) of N fresh u, shape (*batch_shape, N)."""
        inner = (*batch_shape, N)
        x = {name: _repeat_in_batch(value, batch_shape, N) for name, value in x.items()}
        how: dict[str, Any] = {"batch_shape": inner, "detached": detached, "fixed": fixed}
        if self.reverse is None:
            outcome = run.run(self.program, label, given=x, group=group, **how)
            drawn = set(outcome.values) - set(x)
            return sum_log_probs(
                {n: v for n, v in outcome.log_probs.items() if n not in drawn}, inner
            )
        back = run.run(self.reverse, f"{label} reverse", inputs=(x,), group=group, **how)
        outcome = run.run(self.program, label, given=x | back.values, **how)
        _refuse_other_sites(set(outcome.values) - set(x), set(back.values))
        return sum_log_probs(outcome.log_probs, inner) - sum_log_probs(back.log_probs, inner)


def _refuse_other_sites(left_out: set[str], drawn: set[str]) -> None:
    """Refuse a reverse kernel that does not draw the sites that are integrated out.

    Raises:
        ProblemError: naming both.
    """
    if left_out != drawn:
        raise ProblemError(
            f"marginal(reverse=...): it draws {sorted(drawn)}, expected the sites left out, "
            f"{sorted(left_out)}."
        )


def normalize(
    p: Program | AbstractProgramDistribution,
    proposal: Program | AbstractProgramDistribution,
    K: int,
    detach: bool = True,
) -> Normalized:
    """Return an approximation of the posterior of p.

    It resamples one of K draws of a proposal by its importance weight.

    Args:
        p: the distribution of the model (or its program), whose density with the data is
            normalised.
        proposal: the distribution or program that draws the latent sites of p.
        K: the number of draws.
        detach: whether the draws and weights carry no gradient, as reweighted wake-sleep wants of
            `particles`. To draw from the result or take its density in an objective needs
            detach=False.
    """
    batch_shape_of(K)
    return Normalized(as_distribution(p), as_distribution(proposal), K, detach)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalized(AbstractProgramDistribution):
    """An approximation of the posterior of p by weighted draws; made by `normalize`.

    Attributes:
        p: the distribution that is normalised.
        proposal: the distribution that proposes draws.
        K: the number of draws.
        detach: whether draws and weights carry no gradient.
    """

    p: AbstractProgramDistribution
    proposal: AbstractProgramDistribution
    K: int
    detach: bool

    def particles(self) -> tuple[Values, jax.Array]:
        """Draw from the proposal.

        Returns:
            The K draws with a leading axis over draws, and their log weights
            log p(z) - log q(z), shape (K,).
        """
        run = current_run()
        values, log_w, _ = self.draw_weighted(run, run.next_label(), (), self.K)
        return values, log_w

    def draw_weighted(
        self,
        run: ObjectiveRun,
        label: str,
        batch_shape: BatchShape,
        num_draws: int,
        group: str | None = None,
    ) -> tuple[dict, jax.Array, jax.Array]:
        """Return draws, log weights and log densities under p.

        Their leading axes are `batch_shape` and the draws.
        """
        inner = (*batch_shape, num_draws)
        values, log_q = self.proposal.draw(run, f"{label} proposal", inner, group, self.detach)
        log_p = self.p.evaluate(run, f"{label} target", values, inner)
        log_w = log_p - log_q
        return values, sg(log_w) if self.detach else log_w, log_p

    def refuse_detached(self) -> None:
        """Refuse a term of an objective that would have half its gradient.

        Raises:
            ProblemError: naming the cure.
        """
        if self.detach:
            raise ProblemError(
                "normalize(..., detach=True) gives particles() only; draw from it with "
                "detach=False."
            )

    def draw(
        self,
        run: ObjectiveRun,
        label: str,
        batch_shape: BatchShape,
        group: str | None,
        detached: bool = False,
    ) -> tuple[dict, jax.Array]:
        self.refuse_detached()
        values, log_w, log_p = self.draw_weighted(run, label, batch_shape, self.K, group)
        outcome = run.run(
            _choose_particle,
            f"{label} choice",
            batch_shape=batch_shape,
            inputs=(log_w,),
            group=group,
            detached=detached,
        )
        index, axis = outcome.values["index"][..., None], len(batch_shape)

        def take(leaf: jax.Array) -> jax.Array:
            events = index.reshape(*index.shape, *(1,) * (leaf.ndim - index.ndim))
            return jnp.take_along_axis(leaf, events, axis).squeeze(axis)

        log_mean = logsumexp(log_w, -1) - math.log(self.K)
        return jax.tree.map(take, values), take(log_p) - log_mean

    def evaluate(
        self,
        run: ObjectiveRun,
        label: str,
        values: Values,
        batch_shape: BatchShape,
        fixed: bool = False,
    ) -> jax.Array:
        self.refuse_detached()
        log_p = self.p.evaluate(run, f"{label} given", values, batch_shape, fixed)
        log_q = self.proposal.evaluate(run, f"{label} given proposal", values, batch_shape, fixed)
        log_w = (log_p - log_q)[..., None]
        if self.K > 1:
            _, others, _ = self.draw_weighted(run, f"{label} others", batch_shape, self.K - 1)
            log_w = jnp.concatenate([log_w, others], -1)
        return log_p - (logsumexp(log_w, -1) - math.log(self.K))


def _choose_particle(log_w: jax.Array, *args: object, **kwargs: object) -> None:
    """Draw the index of the particle that is taken; a NumPyro program."""
    numpyro.sample("index", dist.CategoricalLogits(log_w))


def _repeat_in_batch(value: ArrayLike, batch_shape: BatchShape, N: int) -> jax.Array:
    """Return the value with an axis of N copies after the axes `batch_shape`."""
    shape, axis = jnp.shape(value), len(batch_shape)
    expanded = jnp.expand_dims(jnp.asarray(value), axis)
    return jnp.broadcast_to(expanded, (*batch_shape, N, *shape[axis:]))
