"""New entries of a fitted functional tensor: what the old ones said of each function stays, as Lambda and eta.

The iterations over them are compiled for a few sizes: entries are filled up with some that say nothing, and positions with
the last one pad_by_repeating, so that updates by other numbers of rows share what was compiled.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.problem import Problem, ProblemError
from inference.core.result import Predictor
from inference.core.structure import StateSpaceTensor
from inference.messages.forms import Moments, moments
from inference.messages.iteration import PSEUDO_OBSERVATION_STEP, Iteration, State, order_by_size
from inference.messages.likelihood_sites import AbstractScalarLikelihood, PseudoObservations
from inference.messages.predictive import params_of_mode
from inference.state_space.matern import Kernel
from inference.state_space.smoother import smooth

UPDATES = 10  # iterations over new entries
SMALLEST = (
    64  # entries, or positions, that a compiled update is made for; then twice as many, and so on
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a compiled update is made for besides sizes.

    Attributes:
        names, ranks, smoothness, form, likelihood: as in `StateSpaceTensor`.
        parallel, order: as in `Iteration`.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    smoothness: tuple[int, ...]
    form: str
    likelihood: AbstractScalarLikelihood
    parallel: bool
    order: tuple[int, ...]


def add_entries(s: StateSpaceTensor, y: np.ndarray, before: Predictor, parallel: bool) -> dict:
    """All that predictions need, as `MessagePassing.params`, with more entries.

    Args:
        s: with all entries, the new ones last.
        y: targets of the new ones.
        before: the result without them.
        parallel: whether smoothing is parallel along the index.
    """
    params, law, new = before.params, before.predict, len(y)
    messages, kernels = [], []
    for k, positions in enumerate(s.positions):
        mode, old = params_of_mode(params, k), np.asarray(law.positions[k])  # pyright: ignore[reportFunctionMemberAccess]
        at = np.searchsorted(positions, old)
        if not np.array_equal(np.asarray(positions)[at], old):
            raise ProblemError(
                f"The indexes of mode '{s.names[k]}' before the update are not among those after it."
            )
        size = padded_size(len(positions))
        messages.append(
            tuple(
                scatter(np.asarray(mode[part]), at, size) for part in ("precision", "information")
            )
        )
        kernels.append(Kernel(mode["lengthscale"], mode.get("constant"), mode["variances"]))
    core = core_message_kept = None
    if "core.mean" in params:
        core = params["core.mean"], params["core.covariance"]
        core_message_kept = params["core.precision"], params["core.information"]
    order = order_by_size(
        [padded_size(len(x)) for x in s.positions]
    )  # of filled sizes, which change seldom
    layout = Layout(s.names, s.ranks, s.smoothness, s.form, s.likelihood, parallel, order)
    entries = (
        [pad_by_repeating(place[-new:], padded_size(new)) for place in s.entry_positions],
        pad_by_repeating(y, padded_size(new)),
    )
    positions = tuple(pad_by_repeating(x, padded_size(len(x))) for x in s.positions)
    seen = (np.arange(padded_size(new)) < new).astype(float)
    given = jax.tree.map(
        lambda part: jnp.asarray(part, float),
        (kernels, positions, seen, messages, core, core_message_kept),
    )
    state = absorb_entries(layout, *entries, *given, jnp.asarray(params["sigma"], float))
    found = dict(params)
    for k, x in enumerate(s.positions):
        parts = (*state.messages[k], state.factors[k].mean)
        found |= {
            f"mode{k}.{name}": part[: len(x)]
            for name, part in zip(("precision", "information", "mean"), parts, strict=True)
        }
    if state.core is not None:
        mean, second = state.core
        found |= {"core.mean": mean, "core.covariance": second - mean[:, None] * mean[None, :]}
        found |= dict(
            zip(("core.precision", "core.information"), state.core_message_kept, strict=True)
        )
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


@functools.partial(jax.jit, static_argnums=0)
def absorb_entries(
    layout: Layout,
    places: list,
    y: Any,
    kernels: list,
    positions: tuple,
    seen: Any,
    messages: list,
    core: Any,
    core_message_kept: Any,
    sigma: Any,
) -> State:
    """The state after iterations over new entries.

    Args:
        layout: of the tensor.
        places: of each mode, the position of each new entry.
        y: their targets.
        kernels: of each mode.
        positions: of each mode, sorted.
        seen: one for each entry that counts, zero for those that fill up.
        messages: Lambda and eta of each mode from other entries.
        core: mean and covariance, or None.
        core_message_kept: Lambda and eta of the core from other entries, or None.
        sigma: scale of the likelihood.
    """
    names = (layout.names, layout.ranks, layout.smoothness, layout.form)
    structure = StateSpaceTensor(
        *names, positions, tuple(places), layout.likelihood, lambda _: tuple(kernels), (), None
    )
    problem = Problem(lambda: None, structure=structure)
    passes = Iteration(
        problem, y, 0.0, 0.0, 1.0, 1, layout.parallel, layout.order, (messages, core_message_kept)
    )
    priors = passes.priors({})

    def factor(prior: Any, known: tuple) -> Moments:
        found = smooth(prior, known[1], known[0], layout.parallel)
        return moments(found.mean, found.covariance)

    def heard(state: State, step: float) -> State:
        found = passes.sites(state, *passes.entries(state), step)
        return state._replace(sites=jax.tree.map(lambda part: seen * part, found))

    def one(_: Any, state: State) -> State:
        return heard(
            passes.update_modes(state, priors, 1.0)[0],
            1.0 if layout.likelihood.has_scale else PSEUDO_OBSERVATION_STEP,
        )

    factors = [factor(prior, known) for prior, known in zip(priors, messages, strict=True)]
    blank = PseudoObservations(jnp.zeros_like(seen), jnp.zeros_like(seen))
    start = State(
        messages,
        factors,
        core_message_kept,
        None if core is None else moments(*core),
        blank,
        sigma,
        {},
        None,
    )
    return jax.lax.fori_loop(0, UPDATES, one, heard(start, 1.0))


def padded_size(count: int) -> int:
    """The size that so many are filled up to."""
    return max(SMALLEST, 1 << (count - 1).bit_length())


def pad_by_repeating(values: Any, size: int) -> np.ndarray:
    """Values, and the last of them again and again."""
    values = np.asarray(values)
    return np.pad(values, (0, size - len(values)), mode="edge")


def scatter(values: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Values at some of many positions, zero at the others."""
    found = np.zeros((size, *values.shape[1:]))
    found[at] = values
    return found
