"""Which columns depend on which: mutual information, Chow-Liu trees, and blocks of numbers.

The tree of a hidden Chow-Liu tree is the maximum spanning tree of pairwise mutual information
between columns (Chow and Liu 1968; Liu and Van den Broeck 2021, arXiv:2103.04403). Numbers are
cut at quantiles for it. Pairs are compared on the rows that have both cells.
"""

from __future__ import annotations

import numpy as np

BINS = 6


def coded_columns(table: np.ndarray, levels: tuple[int, ...]) -> list[np.ndarray]:
    """Return each column as zeros and ones, numbers by their quantiles; all zero where missing.

    Args:
        table: cells as numbers, NaN where they are missing, shape (rows, columns).
        levels: the number of categories of each column, 0 for numbers.
    """
    coded = []
    for column, number in zip(table.T, levels, strict=True):
        known, codes = ~np.isnan(column), np.zeros(len(column), int)
        if number:
            codes[known] = column[known].astype(int)
        else:
            edges = np.unique(np.quantile(column[known], np.linspace(0, 1, BINS + 1)[1:-1]))
            codes[known] = np.searchsorted(edges, column[known], side="right")
            number = len(edges) + 1
        coded.append((np.eye(number)[codes] * known[:, None]).astype(np.float32))
    return coded


def mutual_information(table: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """Return the mutual information of all pairs of columns in nats, less its bias.

    The mutual information of independent columns is about (L - 1)(L' - 1) / (2 rows) in a table of
    counts, which is subtracted.

    Args:
        table: cells as numbers, NaN where they are missing, shape (rows, columns).
        levels: the number of categories of each column, 0 for numbers.
    """
    coded = coded_columns(table, levels)
    widths = [part.shape[1] for part in coded]
    stacked = np.concatenate(coded, axis=1)
    together = (stacked.T @ stacked).astype(np.float64)
    owner = np.repeat(np.arange(len(widths)), widths)
    starts = np.cumsum([0, *widths[:-1]])

    def over(values: np.ndarray, axis: int) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=axis)

    rows = over(over(together, 0), 1)
    left, right = over(together, 1)[:, owner], over(together, 0)[owner]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(together * rows[np.ix_(owner, owner)] / (left * right))
        inside = np.where(together > 0, together * logs, 0.0)
        found = over(over(inside, 0), 1) / np.maximum(rows, 1)
    bias = np.outer(np.array(widths) - 1, np.array(widths) - 1) / (2 * np.maximum(rows, 1))
    return np.where(rows > 0, found - bias, 0.0)


def spanning_tree(weights: np.ndarray) -> tuple[int, ...]:
    """Return the parents of the maximum spanning tree, rooted at its centre.

    Args:
        weights: of each pair of nodes, shape (nodes, nodes).

    Example:
        >>> spanning_tree(np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        (1, -1, 1)
    """
    count = len(weights)
    inside = np.zeros(count, bool)
    inside[0] = True
    nearest, best = np.zeros(count, int), weights[0].astype(float).copy()
    beside: list[list[int]] = [[] for _ in range(count)]
    for _ in range(count - 1):
        node = int(np.argmax(np.where(inside, -np.inf, best)))
        inside[node] = True
        beside[node].append(int(nearest[node]))
        beside[nearest[node]].append(node)
        nearer = ~inside & (weights[node] > best)
        nearest[nearer], best[nearer] = node, weights[node][nearer]
    end = _walk(beside, 0)[1][-1]
    parents, order = _walk(beside, end)
    path = [order[-1]]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return tuple(_walk(beside, path[len(path) // 2])[0])


def _walk(beside: list[list[int]], root: int) -> tuple[list[int], list[int]]:
    """Return the parents of all nodes, and the nodes by their distance from the root."""
    parents = [-2] * len(beside)
    parents[root], order = -1, [root]
    for node in order:
        for other in beside[node]:
            if parents[other] == -2:
                parents[other] = node
                order.append(other)
    return parents, order


def correlated_groups(table: np.ndarray, least: float, most: int) -> list[tuple[int, ...]]:
    """Return groups of columns of numbers that are strongly correlated.

    Groups are joined while the strongest correlation between two of them is at least `least` and
    they have at most `most` columns together.

    Args:
        table: the numbers, NaN where they are missing, shape (rows, columns).
        least: the smallest absolute correlation.
        most: the largest number of columns of a group.
    """
    links = np.abs(correlations(table))
    count = links.shape[0]
    group = np.arange(count)
    upper = np.triu_indices(count, 1)
    for pair in np.argsort(-links[upper], kind="stable"):
        i, j = upper[0][pair], upper[1][pair]
        if links[i, j] < least:
            break
        one, other = group[i], group[j]
        if one != other and np.isin(group, (one, other)).sum() <= most:
            group[group == other] = one
    return [tuple(np.flatnonzero(group == g).tolist()) for g in dict.fromkeys(group.tolist())]


def correlations(table: np.ndarray) -> np.ndarray:
    """Return the correlations of columns, with missing cells at the column's mean."""
    centred = table - np.nanmean(table, axis=0)
    filled = np.where(np.isnan(centred), 0.0, centred)
    root = np.sqrt((filled**2).sum(0))
    return (filled.T @ filled) / np.maximum(np.outer(root, root), 1e-300)
