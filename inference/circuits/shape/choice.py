"""The choice of a circuit's shape: which trees, which blocks, and how many states.

Candidates are judged by the bound of the log evidence, which charges for every state that does not
pay. Tables of categories take trees over single columns, whose number of states is by the number of
rows where these are many; tables with numbers also take blocks of correlated numbers, and mixtures,
one node that holds all columns.
"""

from __future__ import annotations

import jax
import numpy as np

from inference.circuits.layout import Block, Category, Layout
from inference.circuits.learning import Schedule, learn, make_prior, make_start
from inference.circuits.shape.structure import correlated_groups, mutual_information, spanning_tree

# a mixture has blocks of at most so many numbers, a tree of so many
LARGEST_BLOCK, LARGEST_IN_TREE = 40, 12
CORRELATED = 0.5
# candidates are learned from so many rows at most, in so many passes
MOST_ROWS, PASSES = 2000, 60


def tree_layout(
    table: np.ndarray,
    levels: tuple[int, ...],
    groups: list[tuple[int, ...]],
    states: int,
    trees: int = 1,
) -> Layout:
    """Return the hidden Chow-Liu tree over groups of columns, several times for a mixture.

    Args:
        table: the rows, NaN where cells are missing.
        levels: the number of categories of each column, 0 for numbers.
        groups: the columns of each node; those of numbers are one block.
        states: the number of states.
        trees: the number of trees.
    """
    links = mutual_information(table, levels)
    strength = np.array([[links[np.ix_(a, b)].max() for b in groups] for a in groups])
    parents = spanning_tree(strength) if len(groups) > 1 else (-1,)
    count = len(groups)
    forest = tuple(p if p < 0 else p + t * count for t in range(trees) for p in parents)
    categories, blocks = [], []
    for tree in range(trees):
        for at, group in enumerate(groups):
            node = at + tree * count
            categories += [Category(c, node, levels[c]) for c in group if levels[c]]
            numbers = tuple(c for c in group if not levels[c])
            blocks += [Block(numbers, node)] if numbers else []
    return Layout(forest, states, tuple(categories), tuple(blocks))


def default_states(rows: int) -> int:
    """Return how many states a tree of categories has for so many rows."""
    return 2 if rows < 50 else 4 if rows < 500 else 8 if rows < 5000 else 16


def candidates(
    table: np.ndarray,
    levels: tuple[int, ...],
    states: int | None,
    blocks: tuple[tuple[int, ...], ...] | None,
    trees: int | None,
) -> list[Layout]:
    """Return the shapes that are tried, the simplest first.

    Args:
        table: the rows.
        levels: the number of categories of each column, 0 for numbers.
        states: the number of states; None for several.
        blocks: the groups of columns that share a node; None for several.
        trees: the number of trees; None for one, or four of many rows of categories.
    """
    rows, width = table.shape
    singles = [(column,) for column in range(width)]
    numbers = [column for column in range(width) if not levels[column]]
    if blocks is not None:
        taken = {column for group in blocks for column in group}
        groups = [*blocks, *(one for one in singles if one[0] not in taken)]
        tried = (states,) if states else _states(rows)
        return [tree_layout(table, levels, list(groups), k, trees or 1) for k in tried]
    if not numbers:
        forest = trees or (4 if rows >= 500 else 1)
        first = default_states(rows)
        tried = (states,) if states else (first,) if rows >= 500 else tuple({2, first})
        return [tree_layout(table, levels, singles, k, forest) for k in tried]
    found = []
    tried = (states,) if states else _states(rows)
    if len(numbers) <= LARGEST_BLOCK:
        whole = [tuple(range(width))]
        found += [tree_layout(table, levels, whole, k, trees or 1) for k in tried]
    if width > 1:
        linked = correlated_groups(table[:, numbers], CORRELATED, LARGEST_IN_TREE)
        groups = [tuple(numbers[i] for i in group) for group in linked]
        groups += [one for one in singles if levels[one[0]]]
        if len(groups) > 1:
            more = (states or max(tried),)
            found += [tree_layout(table, levels, groups, k, trees or 1) for k in more]
    return found


def _states(rows: int) -> tuple[int, ...]:
    """Return the numbers of states that are tried for so many rows."""
    return tuple(k for k in (1, 3, 6) if k == 1 or rows >= 40 * k)


def choose_layout(found: list[Layout], table: np.ndarray, strength: float, spread: float) -> Layout:
    """Return the candidate with the highest bound of the log evidence.

    Args:
        found: the candidates.
        table: the rows.
        strength: see `make_prior`.
        spread: see `make_prior`.
    """
    if len(found) == 1:
        return found[0]
    order = np.random.default_rng(0).permutation(len(table))[:MOST_ROWS]
    rows = table if len(table) <= MOST_ROWS else table[order]
    bounds = [_bound(layout, rows, strength, spread) for layout in found]
    return found[int(np.argmax(bounds))]


def _bound(layout: Layout, rows: np.ndarray, strength: float, spread: float) -> float:
    """Return the bound of the log evidence of a circuit."""
    prior = make_prior(layout, rows, strength, spread)
    start = make_start(layout, prior, rows, jax.random.key(0))
    schedule = Schedule(None, 0, PASSES, 1e-3, True)
    return float(learn(layout, prior, start, rows, schedule, jax.random.key(1)).bounds[-1])
