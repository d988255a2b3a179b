"""Learning a circuit's posterior from rows: expectation maximisation in its variational form.

Rows give expected statistics under the present weights, and these give the next posterior. With
minibatches of B of N rows the statistics move by a step,

    t <- (1 - s) t + s (N / B) t_batch,

from large steps to small ones. Several trees are first learned on all rows each, from starts of
their own, and then share the rows out as a mixture.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from inference.circuits.layout import Layout
from inference.circuits.leaves import Patterns, Weights, find_patterns, traced_patterns
from inference.circuits.statistics import (
    Moments,
    Prior,
    Statistics,
    expect,
    expected_weights,
    kl_from_prior,
    log_prior,
    mean_weights,
)
from inference.core.progress import AbstractProgress, Silent
from inference.core.typing import Key

# the first and the last step of minibatches
FIRST, LAST = 0.6, 0.05
# rows of a chunk
CHUNK = 512
# with more patterns of missing cells each row has its own
MOST_PATTERNS = 64


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how finely to learn.

    Attributes:
        batch_size: the number of rows of a minibatch; None for all of them.
        epochs: the number of passes over the rows in minibatches.
        most: the largest number of passes over all rows after these.
        tolerance: the gain of the bound, in nats a row, below which these passes end.
        variational: whether passes use the variational weights, or the posterior mode.
    """

    batch_size: int | None
    epochs: int
    most: int
    tolerance: float
    variational: bool


@dataclasses.dataclass(frozen=True)
class Learned:
    """What learning gives.

    Attributes:
        statistics: the expected statistics of all rows.
        bounds: the bound after each pass over all rows: of log p(table) for variational weights,
            otherwise the log posterior up to a constant.
        converged: whether the last pass gained less than the tolerance, and lost nothing.
        fell: by how many nats a row the bound fell in the last pass, beyond rounding; 0 for not.
            The statistics are those before the fall.
    """

    statistics: Statistics
    bounds: np.ndarray
    converged: bool
    fell: float = 0.0


class Rows(NamedTuple):
    """Rows in chunks, the last one filled up with rows that count nothing.

    Attributes:
        table: shape (chunks, rows, columns).
        counts: how much each row counts, shape (chunks, rows).
        masks: the patterns of missing cells of the blocks of each size; () where each row has its
            own.
        numbers: the number of each row's pattern, shape (chunks, blocks, rows).
    """

    table: jax.Array
    counts: jax.Array
    masks: tuple[Any, ...]
    numbers: tuple[Any, ...]


def in_chunks(layout: Layout, table: np.ndarray, size: int) -> Rows:
    """Return rows in chunks of a size."""
    total = len(table)
    chunks = -(-total // size)
    index = np.minimum(np.arange(chunks * size), total - 1)
    counts: Any = (np.arange(chunks * size) < total).astype(np.float64).reshape(chunks, size)
    patterns = find_patterns(layout, table)
    if any(one.masks.shape[1] > MOST_PATTERNS for one in patterns):
        patterns = ()
    masks = tuple(one.masks for one in patterns)
    numbers = tuple(
        one.rows[:, index].reshape(-1, chunks, size).transpose(1, 0, 2) for one in patterns
    )
    rows: Any = table[index].reshape(chunks, size, -1)
    return jax.tree.map(jnp.asarray, Rows(rows, counts, masks, numbers))


def shuffled(rows: Rows, order: jax.Array) -> Rows:
    """Return chunks of rows in another order."""

    def move(leaf: jax.Array, axis: int) -> jax.Array:
        moved = jnp.moveaxis(leaf, axis, 1)
        flat = moved.reshape(-1, *moved.shape[2:])[order]
        return jnp.moveaxis(flat.reshape(moved.shape), 1, axis)

    numbers = tuple(move(leaf, 2) for leaf in rows.numbers)
    return Rows(move(rows.table, 1), move(rows.counts, 1), rows.masks, numbers)


def _patterns(layout: Layout, chunk: Rows, masks: tuple) -> tuple[Patterns, ...]:
    """Return the patterns of missing cells of a chunk."""
    if layout.sizes and not masks:
        return traced_patterns(layout, chunk.table)
    return tuple(Patterns(m, n) for m, n in zip(masks, chunk.numbers, strict=True))


def _weights_of(prior: Prior, found: Statistics, variational: bool) -> Weights:
    return (expected_weights if variational else mean_weights)(prior, found)


@functools.partial(jax.jit, static_argnames=("layout", "variational"))
def whole_pass(
    layout: Layout, prior: Prior, found: Statistics, rows: Rows, variational: bool, joint: ArrayLike
) -> tuple[Statistics, jax.Array]:
    """Return the statistics under the present weights, and the objective that these have."""
    weights = _weights_of(prior, found, variational)

    def add(total: Any, chunk: Rows) -> tuple:
        patterns = _patterns(layout, chunk, rows.masks)
        some, value = expect(layout, weights, chunk.table, patterns, chunk.counts, joint)
        return jax.tree.map(jnp.add, total, (some, (value * chunk.counts).sum())), None

    nothing = (jax.tree.map(jnp.zeros_like, found), jnp.zeros((), rows.counts.dtype))
    (total, value), _ = jax.lax.scan(add, nothing, rows._replace(masks=()))
    penalty = -kl_from_prior(prior, found) if variational else log_prior(prior, weights)
    return total, value + penalty


@functools.partial(jax.jit, static_argnames=("layout", "variational"))
def minibatch_pass(
    layout: Layout,
    prior: Prior,
    found: Statistics,
    rows: Rows,
    steps: jax.Array,
    variational: bool,
    joint: ArrayLike,
) -> Statistics:
    """Return the statistics after a step with each chunk of rows."""
    total = rows.counts.sum()

    def move(found: Statistics, at: tuple) -> tuple:
        chunk, step = at
        weights = _weights_of(prior, found, variational)
        patterns = _patterns(layout, chunk, rows.masks)
        some, _ = expect(layout, weights, chunk.table, patterns, chunk.counts, joint)
        share = total / jnp.maximum(chunk.counts.sum(), 1.0)

        def mixed(old: jax.Array, new: jax.Array) -> jax.Array:
            return ((1 - step) * old + step * share * new).astype(old.dtype)

        return jax.tree.map(mixed, found, some), None

    return jax.lax.scan(move, found, (rows._replace(masks=()), steps))[0]


def learn(
    layout: Layout,
    prior: Prior,
    start: Statistics,
    table: np.ndarray,
    schedule: Schedule,
    key: Key,
    progress: AbstractProgress = Silent(),
) -> Learned:
    """Learn the posterior of a circuit.

    Args:
        layout: the circuit.
        prior: the prior of its numbers.
        start: the statistics to start from.
        table: the rows, NaN where cells are missing.
        schedule: how long and how finely.
        key: the key of the order of rows.
        progress: what shows how far learning is.
    """
    trees = len(layout.roots)
    prior, start = jax.tree.map(jnp.asarray, (prior, start))
    progress.start(schedule.epochs + schedule.most, "learning")
    found = _in_minibatches(layout, prior, start, table, schedule, key, progress)
    rows = in_chunks(layout, table, min(len(table), CHUNK))
    if not schedule.most:
        progress.close()
        bound = whole_pass(layout, prior, found, rows, schedule.variational, True)[1]
        return Learned(found, np.array([float(bound)]), False)
    stages = (False, True) if trees > 1 and not schedule.epochs else (True,)
    learned = Learned(found, np.zeros(0), False)
    for joint in stages:
        most, start = schedule.most // len(stages), learned.statistics
        learned = _raise(layout, prior, start, rows, schedule, most, joint, progress)
    progress.close()
    return learned


def _raise(
    layout: Layout,
    prior: Prior,
    found: Statistics,
    rows: Rows,
    schedule: Schedule,
    most: int,
    joint: bool,
    progress: AbstractProgress,
) -> Learned:
    """Learn in passes over all rows until the bound rises no more.

    The bound is that of the joint circuit, which trees that learn by themselves need not raise.
    """
    bounds: list[float] = []
    total, before = float(rows.counts.sum()), found
    for _ in range(most):
        new, bound = whole_pass(layout, prior, found, rows, schedule.variational, joint)
        bounds.append(float(bound))
        progress.advance(1, bound=f"{bounds[-1] / total:.4f}")
        gained = np.inf if len(bounds) < 2 else bounds[-1] - bounds[-2]
        # not-a-number is a fall too
        if joint and not gained >= -rounding(prior, bounds):
            fell = float(np.nan_to_num(-gained / total, nan=np.inf))
            return Learned(before, np.array(bounds[:-1]), False, fell)
        if len(bounds) > 2 and gained / total < schedule.tolerance:
            return Learned(found, np.array(bounds), True)
        before, found = found, new
    return Learned(found, np.array(bounds), False)


def rounding(prior: Prior, bounds: list[float]) -> float:
    """Return by how much a bound may fall as sums are rounded, in nats."""
    return float(1e2 * np.finfo(prior.roots.dtype).eps * (1.0 + max(map(abs, bounds[-2:]))))


def _in_minibatches(
    layout: Layout,
    prior: Prior,
    found: Statistics,
    table: np.ndarray,
    schedule: Schedule,
    key: Key,
    progress: AbstractProgress,
) -> Statistics:
    """Return the statistics after the passes in minibatches."""
    if not schedule.epochs:
        return found
    rows = in_chunks(layout, table, schedule.batch_size or len(table))
    batches, trees = len(rows.table), len(layout.roots)
    steps = np.linspace(FIRST, LAST, batches * schedule.epochs).reshape(schedule.epochs, -1)
    for epoch in range(schedule.epochs):
        order = jax.random.permutation(jax.random.fold_in(key, epoch), rows.counts.size)
        joint = trees == 1 or 2 * epoch >= schedule.epochs
        mixed = shuffled(rows, order)
        found = minibatch_pass(layout, prior, found, mixed, steps[epoch], False, joint)
        progress.advance(1)
    return found


def make_prior(layout: Layout, table: np.ndarray, strength: float, spread: float) -> Prior:
    """Return the prior of a circuit.

    Args:
        layout: the circuit.
        table: the training rows, by which the levels of categories are weighted.
        strength: how many rows each prior distribution counts as.
        spread: the prior mean of variances of a block given its state.
    """
    trees, states = len(layout.roots), layout.states
    kind = np.float32 if not layout.blocks else np.float64
    levels = []
    for number in layout.kinds:
        columns, _ = layout.categories_of(number)
        shares = np.stack([_shares(table[:, column], number) for column in columns])
        levels.append(np.repeat(strength * shares[:, None], states, axis=1).astype(kind))
    roots = np.full((trees, states), strength / (trees * states), kind)
    edges = np.full((len(layout.edges), states, states), strength / states, kind)
    scales = [
        np.repeat(spread * np.eye(size)[None], len(layout.blocks_of(size)[1]), axis=0)
        for size in layout.sizes
    ]
    return Prior(roots, edges, tuple(levels), 0.1, tuple(scales))


def _shares(codes: np.ndarray, levels: int) -> np.ndarray:
    """Return the shares of levels, none of them zero."""
    counts = np.bincount(codes[~np.isnan(codes)].astype(int), minlength=levels) + 0.5
    return counts / counts.sum()


def make_start(layout: Layout, prior: Prior, table: np.ndarray, key: Key) -> Statistics:
    """Return statistics to start from: each state of a tree is like one row drawn at random."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    trees, states, rows = len(layout.roots), layout.states, len(table)
    kind = prior.roots.dtype
    owner = np.zeros(layout.nodes, int)
    for node in range(layout.nodes):
        root = node
        while layout.parents[root] >= 0:
            root = layout.parents[root]
        owner[node] = int(np.searchsorted(layout.roots, root))
    examples = table[random.integers(0, rows, (trees, states))]
    share = rows / states
    levels = []
    for at, number in enumerate(layout.kinds):
        columns, nodes = layout.categories_of(number)
        shares = prior.levels[at] / prior.levels[at].sum(-1, keepdims=True)
        codes = examples[owner[nodes], :, columns]
        seen = codes[..., None] == np.arange(number)
        like = np.where(np.isnan(codes)[..., None], shares, seen)
        levels.append((share * (0.5 * shares + 0.5 * like)).astype(kind))
    moments = []
    for size in layout.sizes:
        columns, nodes = layout.blocks_of(size)
        centres = examples[owner[nodes][:, None], :, columns].transpose(0, 2, 1)
        centres = np.where(np.isnan(centres), 0.0, centres)
        squares = centres[..., :, None] * centres[..., None, :] + 0.5 * np.eye(size)
        count = np.full(centres.shape[:2], share)
        moments.append(Moments(count, share * centres, share * squares))
    noise = random.dirichlet(np.full(states, 2.0), (len(layout.edges), states))
    edges = (share * (0.5 * np.eye(states) + 0.5 * noise)).astype(kind)
    roots = (rows * random.dirichlet(np.full(trees * states, 5.0))).reshape(trees, states)
    return Statistics(roots.astype(kind), edges, tuple(levels), tuple(moments))
