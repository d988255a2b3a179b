"""What fits of circuits answer: imputations, densities, outliers, samples and dependence.

All of it is exact given the circuit that is the predictive of a new row; draws of missing cells
come from circuits that are drawn from the posterior, so that they carry its uncertainty.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.circuits.completing import complete
from bayesdl.circuits.schema import CircuitSchema
from bayesdl.data.frames import index_labels
from bayesdl.data.validation import DataError, ModelError
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import Integer, TableLike
from inference.circuits.layout import Layout
from inference.circuits.leaves import Weights, log_density
from inference.circuits.left_out import log_left_out
from inference.circuits.model import TractableCircuit, merge_circuits, weights_of_sites
from inference.circuits.queries import draw_missing, expected_cells
from inference.circuits.result import CircuitResult
from inference.circuits.shape.structure import mutual_information
from inference.core.keys import named_key
from inference.core.typing import Key
from inference.settings import as_seed, is_whole

# rows of a chunk
CHUNK = 1024
# rows that are drawn to see what depends on what
DRAWN = 5000


@dataclasses.dataclass(frozen=True, eq=False)
class Outliers:
    """How surprising rows and cells are.

    Numbers are in units of their column's standard deviation, so that columns can be compared.

    Attributes:
        rows: -log p of each row's observed cells, shape (rows,); higher is more surprising.
        cells: -log p of each cell given all others of its row, a DataFrame of rows and columns.
    """

    rows: np.ndarray
    cells: Any

    def worst(self, number: int = 10) -> Any:
        """Return the most surprising cells, a DataFrame with row, column and surprise."""
        import pandas as pd

        surprise = self.cells.to_numpy().ravel()
        order = np.argsort(-np.nan_to_num(surprise, nan=-np.inf), kind="stable")[:number]
        order = order[~np.isnan(surprise[order])]
        rows, columns = np.divmod(order, self.cells.shape[1])
        parts = {"row": self.cells.index[rows], "column": self.cells.columns[columns]}
        return pd.DataFrame({**parts, "surprise": surprise[order]})


def impute(
    posterior: AbstractPosterior,
    table: TableLike | None = None,
    draws: Integer = 20,
    seed: Integer | None = None,
) -> list[Any]:
    """Return completed tables: missing cells are drawn together from their distribution.

    Each table comes from circuit numbers of its own, drawn from the posterior, so that results
    of the tables can be pooled by Rubin's rules.

    Args:
        posterior: the fit.
        table: the table; by default the training rows, as a DataFrame.
        draws: the number of completed tables.
        seed: the seed; by default that of the fit.

    Raises:
        DataError: for a table that does not fit the training columns.
    """
    if not is_whole(draws):
        raise ValueError(f"impute(draws={draws!r}): expected a whole number of at least 1.")
    schema, rows = _rows(posterior, table)
    found = []
    for weights, key in _draws(posterior, int(draws), seed):
        filled = _by_chunks(posterior, functools.partial(_fill, key=key), weights, rows)
        found.append(schema.write(filled, table))
    return found


def fill(posterior: AbstractPosterior, table: TableLike | None = None) -> Any:
    """Return the table with each missing number at its mean, each category at the most probable.

    Each cell is filled by itself given the known cells of its row. Results of one filled table know
    nothing of what the cells may have been otherwise; see `impute`.

    Args:
        posterior: the fit.
        table: the rows; by default the training rows, as a DataFrame.

    Raises:
        DataError: for a table that does not fit the training columns.
    """
    schema, rows = _rows(posterior, table)
    return schema.write(_of_predictive(posterior, expected_cells, rows), table)


def density(posterior: AbstractPosterior, table: TableLike | None = None) -> np.ndarray:
    """Return log p(observed cells) of each row, shape (rows,).

    Numbers count in densities in their own units, categories in probabilities; a table with both
    has their product.

    Args:
        posterior: the fit.
        table: the rows; by default the training rows.
    """
    schema, rows = _rows(posterior, table)
    scales = np.log([column.scale for column in schema.columns])
    return _of_predictive(posterior, log_density, rows) - (~np.isnan(rows) * scales).sum(1)


def outliers(posterior: AbstractPosterior, table: TableLike | None = None) -> Outliers:
    """Return how surprising each row and each cell is.

    Args:
        posterior: the fit.
        table: the rows; by default the training rows.
    """
    import pandas as pd

    schema, rows = _rows(posterior, table)
    cells = pd.DataFrame(
        -_of_predictive(posterior, log_left_out, rows),
        columns=schema.names,
        index=index_labels((table,)) or None,
    )
    return Outliers(-_of_predictive(posterior, log_density, rows), cells[list(schema.shown)])


def most_probable(posterior: AbstractPosterior, table: TableLike | None = None) -> Any:
    """Return the table with the most probable values of all missing cells of a row together.

    Where the missing cells of a row are categories with few combinations, all are compared. In
    other rows each cell moves to the most probable value given all others until none can.

    Args:
        posterior: the fit.
        table: the rows; by default the training rows, as a DataFrame.
    """
    schema, rows = _rows(posterior, table)
    with precision_scope(posterior.model):
        filled = complete(*_predictive(posterior), schema.levels, rows)
    return schema.write(filled, table)


def sample(
    posterior: AbstractPosterior,
    num_samples: Integer,
    seed: Integer = 0,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """Return new rows, a DataFrame.

    Args:
        posterior: the fit.
        num_samples: the number of rows.
        seed: the seed.
        given: cells by the names of columns, which all rows have.

    Raises:
        DataError: for cells that have probability zero, or names of no columns.
    """
    if not is_whole(num_samples):
        raise ValueError(
            f"sample(num_samples={num_samples!r}): expected a whole number of at least 1."
        )
    schema: CircuitSchema = posterior.schema
    row = np.full((1, len(schema.columns)), np.nan)
    for name, value in dict(given or {}).items():
        at = schema.number(name)
        import pandas as pd

        row[0, at] = schema.columns[at].read(pd.Series([value], name=name))[0]
    if not np.isfinite(_of_predictive(posterior, log_density, row)).all():
        raise DataError(f"given={dict(given or {})!r} has probability zero under the circuit.")
    parts = min(int(num_samples), 20)
    sizes = [len(part) for part in np.array_split(np.arange(int(num_samples)), parts)]
    drawn = [
        _by_chunks(posterior, functools.partial(_fill, key=key), weights, np.repeat(row, size, 0))
        for size, (weights, key) in zip(sizes, _draws(posterior, parts, seed), strict=True)
    ]
    return schema.write(np.concatenate(drawn))


def marginal(posterior: AbstractPosterior, columns: Any) -> AbstractPosterior:
    """Return the fit of some of the columns alone: all others are left out exactly.

    Args:
        posterior: the fit.
        columns: the names of the columns to keep.

    Raises:
        DataError: for names of no columns.
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    schema: CircuitSchema = posterior.schema
    kept = tuple(schema.columns[schema.number(name)].name for name in names)
    if not kept:
        raise ModelError("marginal([]): expected the name of at least one column.")
    fewer = dataclasses.replace(schema, kept=kept)
    rows = fewer.only_kept(np.asarray(posterior.problem.args[0]))
    problem = dataclasses.replace(posterior.problem, args=(rows,))
    return dataclasses.replace(posterior, schema=fewer, problem=problem)


def dependence(posterior: AbstractPosterior, seed: Integer | None = None) -> Any:
    """Return the mutual information of all pairs of columns in nats, a DataFrame.

    It is estimated from 5,000 rows of the circuit, numbers cut at their quantiles; on the diagonal
    stands the entropy of a column cut so.

    Args:
        posterior: the fit.
        seed: the seed of the rows; by default that of the fit.
    """
    import pandas as pd

    schema: CircuitSchema = posterior.schema
    rows = np.full((DRAWN, len(schema.columns)), np.nan)
    ((weights, key),) = _draws(posterior, 1, seed, expected=True)
    drawn = _by_chunks(posterior, functools.partial(_fill, key=key), weights, rows)
    found = np.maximum(mutual_information(drawn, schema.levels), 0.0)
    shown = [schema.names.index(name) for name in schema.shown]
    return pd.DataFrame(found, schema.names, schema.names).iloc[shown, shown]


VERBS: Mapping[str, Callable[..., Any]] = {
    "impute": impute,
    "fill": fill,
    "density": density,
    "outliers": outliers,
    "most_probable": most_probable,
    "sample": sample,
    "marginal": marginal,
    "dependence": dependence,
}


def _rows(
    posterior: AbstractPosterior, table: TableLike | None
) -> tuple[CircuitSchema, np.ndarray]:
    """Return the schema, and rows as the circuit sees them; the training rows for None."""
    schema: CircuitSchema = posterior.schema
    if table is None:
        return schema, schema.only_kept(np.asarray(posterior.problem.args[0]))
    return schema, schema.read(table)


def _circuits(posterior: AbstractPosterior) -> list[Weights]:
    """Return the circuits whose mean density is the predictive: one, where it is known exactly."""
    raw = posterior.raw
    if isinstance(raw, CircuitResult):
        return [raw.expected()]
    layout, draws = posterior.schema.layout, posterior.samples
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in draws.items()}
    total = len(next(iter(flat.values())))
    chosen = np.linspace(0, total - 1, min(total, 100)).astype(int)
    return [
        weights_of_sites(layout, {name: jnp.asarray(value[i]) for name, value in flat.items()})
        for i in chosen
    ]


def _draws(
    posterior: AbstractPosterior, number: int, seed: Integer | None, expected: bool = False
) -> list[tuple[Weights, Any]]:
    """Return circuits drawn from the posterior, each with a key of its own."""
    seed = posterior.seed if seed is None else as_seed(seed)
    key = named_key(jax.random.key(seed), "drawn circuits")
    keys = jax.random.split(named_key(key, "rows"), number)
    with precision_scope(posterior.model):
        if isinstance(posterior.raw, CircuitResult):
            many = posterior.raw.draws(key, number)
            found = [jax.tree.map(lambda leaf, i=i: leaf[i], many) for i in range(number)]
        else:
            every = _circuits(posterior)
            order = np.random.default_rng(seed).permutation(len(every))
            found = [every[order[i % len(every)]] for i in range(number)]
    return list(zip(found, keys, strict=True))


def _fill(layout: Layout, weights: Weights, table: jax.Array, *, key: Key) -> jax.Array:
    return draw_missing(layout, weights, table, jax.random.fold_in(key, 0))


def _predictive(posterior: AbstractPosterior) -> tuple[Layout, Weights]:
    """Return the circuit that is the predictive of a new row."""
    return merge_circuits(posterior.schema.layout, _circuits(posterior))


def _of_predictive(
    posterior: AbstractPosterior, function: Callable, rows: np.ndarray
) -> np.ndarray:
    """Return a function of rows under the predictive."""
    with precision_scope(posterior.model):
        layout, weights = _predictive(posterior)
        return _by_chunks(posterior, function, weights, rows, layout)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(
    function: Callable, layout: Layout, weights: Weights, rows: jax.Array, key: Key | None
) -> jax.Array:
    settings = {} if key is None else {"key": key}
    return function(layout, weights, rows, **settings)


def _by_chunks(
    posterior: AbstractPosterior,
    function: Callable,
    weights: Weights,
    rows: np.ndarray,
    layout: Layout | None = None,
) -> np.ndarray:
    """Return a function of rows, computed some rows after the other."""
    one = posterior.problem.structure_as(TractableCircuit).layout
    layout = layout or one
    key = function.keywords["key"] if isinstance(function, functools.partial) else None
    inside = function.func if isinstance(function, functools.partial) else function
    size, found = min(max(CHUNK * one.nodes // layout.nodes, 16), len(rows)), []
    for start in range(0, len(rows), size):
        index = np.minimum(np.arange(start, start + size), len(rows) - 1)
        at = None if key is None else jax.random.fold_in(key, start)
        with precision_scope(posterior.model):
            part = _compiled(inside, layout, weights, jnp.asarray(rows[index]), at)
        found.append(np.asarray(part)[: len(rows) - start])
    return np.concatenate(found)
