"""The shape of a circuit: a forest of hidden states, and the leaves that hang on its nodes.

Every node of the forest has a hidden state in 1..K. Columns of the table hang on nodes as leaves: a
category, or a block of numbers that are normal together given the state. Several trees with one
table beneath them are a mixture, whose weights are part of the roots' probabilities.

A pass visits the edges in steps of a few edges each, children before their parents, so that a
compiled scan has as few steps as the forest is deep, whatever its width.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from inference.process.cached import cached

# what a step costs beside its edges, in edges
STEP = 4


class Steps(NamedTuple):
    """The edges in the order of a pass, shape (steps, edges at once).

    Attributes:
        edge: the number of each edge; 0 where the place is empty.
        child: the node below it; the number of nodes where the place is empty.
        parent: the node above it; the number of nodes where the place is empty.
    """

    edge: np.ndarray
    child: np.ndarray
    parent: np.ndarray


class Category(NamedTuple):
    """A column of categories on a node.

    Attributes:
        column: which column of the table.
        node: the node on which it hangs.
        levels: the number of its levels.
    """

    column: int
    node: int
    levels: int


class Block(NamedTuple):
    """A group of numbers that are normal together given the state of a node.

    Attributes:
        columns: which columns of the table.
        node: the node on which they hang.
    """

    columns: tuple[int, ...]
    node: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """A forest of hidden states with leaves; plain data that compare by value.

    Attributes:
        parents: the parent of each node, -1 for a root.
        states: the number K of states of a node.
        categories: the leaves of categories.
        blocks: the leaves of numbers.

    Example:
        >>> leaves = tuple((node, node, 2) for node in range(3))
        >>> chain = Layout((-1, 0, 1), 2, leaves)
        >>> chain.roots.tolist(), chain.edges.tolist(), chain.kinds
        ([0], [1, 2], (2,))
    """

    parents: tuple[int, ...]
    states: int
    categories: Any = ()
    blocks: Any = ()

    def __post_init__(self) -> None:
        categories = tuple(Category(*leaf) for leaf in self.categories)
        blocks = tuple(Block(tuple(columns), node) for columns, node in self.blocks)
        object.__setattr__(self, "parents", tuple(self.parents))
        object.__setattr__(self, "categories", categories)
        object.__setattr__(self, "blocks", blocks)

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return len(self.parents)

    @cached
    def roots(self) -> np.ndarray:
        """The nodes without a parent, one for each tree."""
        return np.flatnonzero(np.array(self.parents) < 0)

    @cached
    def edges(self) -> np.ndarray:
        """The nodes with a parent, in the order of the edges above them."""
        return np.flatnonzero(np.array(self.parents) >= 0)

    @cached
    def kinds(self) -> tuple[int, ...]:
        """The different numbers of levels of categories, in order."""
        return tuple(sorted({leaf.levels for leaf in self.categories}))

    @cached
    def sizes(self) -> tuple[int, ...]:
        """The different sizes of blocks, in order."""
        return tuple(sorted({len(block.columns) for block in self.blocks}))

    def categories_of(self, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and nodes of the categories with so many levels, shape (leaves,) each."""
        leaves = [leaf for leaf in self.categories if leaf.levels == levels]
        return np.array([leaf.column for leaf in leaves]), np.array([leaf.node for leaf in leaves])

    def blocks_of(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return columns, shape (leaves, size), and nodes of the blocks of a size."""
        leaves = [leaf for leaf in self.blocks if len(leaf.columns) == size]
        return np.array([leaf.columns for leaf in leaves]), np.array([leaf.node for leaf in leaves])

    @cached
    def width(self) -> int:
        """The number of columns of the table."""
        columns = [leaf.column for leaf in self.categories]
        return 1 + max([*columns, *(c for block in self.blocks for c in block.columns)])

    @cached
    def steps(self) -> Steps:
        """The edges in the order of an upward pass, children before their parents."""
        ranks = _heights(self.parents)
        widths = range(1, max(len(self.edges), 1) + 1)
        plans = [_plan(self.parents, ranks, width) for width in sorted({*widths} & {*_tried()})]
        best = min(plans, key=lambda plan: len(plan) * (STEP + max(map(len, plan), default=0)))
        width = max(map(len, best), default=1)
        numbers = {int(node): number for number, node in enumerate(self.edges)}
        edge = np.zeros((len(best), width), np.int32)
        child, parent = (np.full((len(best), width), self.nodes, np.int32) for _ in range(2))
        for row, nodes in enumerate(best):
            for place, node in enumerate(nodes):
                edge[row, place] = numbers[node]
                child[row, place], parent[row, place] = node, self.parents[node]
        return Steps(edge, child, parent)


def _tried() -> list[int]:
    """Return the numbers of edges at once that are tried."""
    return [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512]


def _heights(parents: tuple[int, ...]) -> list[int]:
    """Return the depth of each node below its root: the deepest must be visited first."""
    depths = [-1] * len(parents)
    for start in range(len(parents)):
        path, node = [], start
        while node >= 0 and depths[node] < 0:
            path.append(node)
            node = parents[node]
        depth = depths[node] if node >= 0 else -1
        for visited in reversed(path):
            depth += 1
            depths[visited] = depth
    return depths


def _plan(parents: tuple[int, ...], depths: list[int], width: int) -> list[list[int]]:
    """Return which nodes' edges are visited at each step, at most `width` at once."""
    waiting = [0] * len(parents)
    for parent in parents:
        if parent >= 0:
            waiting[parent] += 1
    ready = [node for node, count in enumerate(waiting) if count == 0 and parents[node] >= 0]
    plan: list[list[int]] = []
    while ready:
        ready.sort(key=lambda node: -depths[node])
        step, ready = ready[:width], ready[width:]
        plan.append(step)
        for node in step:
            parent = parents[node]
            waiting[parent] -= 1
            if waiting[parent] == 0 and parents[parent] >= 0:
                ready.append(parent)
    return plan
