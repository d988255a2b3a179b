"""New entries of a fitted functional tensor; the messages of the old ones stay as they are.

The iterations over them are compiled for a few sizes: entries are filled up with some that say
nothing, and positions with the last one pad_by_repeating, so that updates by other numbers of rows
share what was compiled.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from inference.core.problem import Problem, ProblemError
from inference.core.result import Predictor
from inference.core.structure import StateSpaceTensor
from inference.messages.forms import Moments, moments
from inference.messages.iteration import PSEUDO_OBSERVATION_STEP, Iteration, State, order_by_size
from inference.messages.predictive import params_of_mode
from inference.messages.pseudo_observations import AbstractScalarLikelihood, PseudoObservations
from inference.state_space.matern import Kernel
from inference.state_space.smoother import Prior, smooth

# iterations over new entries
UPDATES = 10
# the smallest number of entries, or positions, of a compiled update; the next sizes are doubled
SMALLEST = 64


@dataclasses.dataclass(frozen=True)
class Layout:
    """The static settings of a compiled update.

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
    """Return all arrays that predictions need, as `MessagePassing.params`, with more entries.

    Args:
        s: the structure with all entries, the new ones last.
        y: the targets of the new entries.
        before: the result without the new entries.
        parallel: whether smoothing is parallel along the index.
    """
    params, new = before.params, len(y)
    predictive: Any = before.predict
    messages, kernels = [], []
    for k, positions in enumerate(s.positions):
        mode, old = params_of_mode(params, k), np.asarray(predictive.positions[k])
        at = np.searchsorted(positions, old)
        if not np.array_equal(np.asarray(positions)[at], old):
            raise ProblemError(
                f"The indexes of mode '{s.names[k]}' before the update are not among those after "
                "it."
            )
        size = _padded_size(len(positions))
        messages.append(
            tuple(
                _scatter(np.asarray(mode[part]), at, size) for part in ("precision", "information")
            )
        )
        kernels.append(Kernel(mode["lengthscale"], mode.get("constant"), mode["variances"]))
    core = core_message = None
    if "core.mean" in params:
        core = params["core.mean"], params["core.covariance"]
        core_message = params["core.precision"], params["core.information"]
    # by padded sizes, which seldom change
    order = order_by_size([_padded_size(len(x)) for x in s.positions])
    layout = Layout(s.names, s.ranks, s.smoothness, s.form, s.likelihood, parallel, order)
    entries = (
        [_pad_by_repeating(place[-new:], _padded_size(new)) for place in s.entry_positions],
        _pad_by_repeating(y, _padded_size(new)),
    )
    positions = tuple(_pad_by_repeating(x, _padded_size(len(x))) for x in s.positions)
    seen = (np.arange(_padded_size(new)) < new).astype(float)
    given = jax.tree.map(
        lambda part: jnp.asarray(part, float),
        (kernels, positions, seen, messages, core, core_message),
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
        found |= dict(zip(("core.precision", "core.information"), state.core_message, strict=True))
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


@functools.partial(jax.jit, static_argnums=0)
def absorb_entries(
    layout: Layout,
    places: list,
    y: jax.Array,
    kernels: list,
    positions: tuple,
    seen: jax.Array,
    messages: list,
    core: tuple | None,
    core_message: tuple | None,
    sigma: jax.Array,
) -> State:
    """Return the state after iterations over new entries.

    Args:
        layout: the static settings.
        places: for each mode the number of the position of each new entry.
        y: the targets of the new entries.
        kernels: the kernel of each mode.
        positions: the sorted positions of each mode.
        seen: one for each entry that counts, zero for padding.
        messages: the messages of each mode from other entries.
        core: mean and covariance of the core, or None.
        core_message: the message of the core from other entries, or None.
        sigma: the scale of the likelihood.
    """
    names = (layout.names, layout.ranks, layout.smoothness, layout.form)
    structure = StateSpaceTensor(
        *names, positions, tuple(places), layout.likelihood, lambda _: tuple(kernels), (), None
    )
    problem = Problem(lambda: None, structure=structure)
    iteration = Iteration(
        problem, y, 0.0, 0.0, 1.0, 1, layout.parallel, layout.order, (messages, core_message)
    )
    priors = iteration.priors({})

    def factor(prior: Prior, known: tuple) -> Moments:
        found = smooth(prior, known[1], known[0], layout.parallel)
        return moments(found.mean, found.covariance)

    def observe(state: State, step: float) -> State:
        found = iteration.sites(state, *iteration.entries(state), step)
        return state._replace(sites=jax.tree.map(lambda part: seen * part, found))

    def one(_: ArrayLike, state: State) -> State:
        return observe(
            iteration.update_modes(state, priors, 1.0)[0],
            1.0 if layout.likelihood.has_scale else PSEUDO_OBSERVATION_STEP,
        )

    factors = [factor(prior, known) for prior, known in zip(priors, messages, strict=True)]
    blank = PseudoObservations(jnp.zeros_like(seen), jnp.zeros_like(seen))
    start = State(
        messages,
        factors,
        core_message,
        None if core is None else moments(*core),
        blank,
        sigma,
        {},
        None,
    )
    return jax.lax.fori_loop(0, UPDATES, one, observe(start, 1.0))


def _padded_size(count: int) -> int:
    """Return the size that this many entries or positions are padded to."""
    return max(SMALLEST, 1 << (count - 1).bit_length())


def _pad_by_repeating(values: ArrayLike, size: int) -> np.ndarray:
    """Pad values with copies of the last one."""
    values = np.asarray(values)
    return np.pad(values, (0, size - len(values)), mode="edge")


def _scatter(values: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Put values at some of many positions, and zero at the others."""
    found = np.zeros((size, *values.shape[1:]))
    found[at] = values
    return found
