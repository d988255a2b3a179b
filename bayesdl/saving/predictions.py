"""Predictions of files: rows are read, predicted and written a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bayesdl.data.files import CHUNK, TableWriter, in_later_rows, read_as_written, read_chunks
from bayesdl.data.validation import DataError
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import Frame, Integer
from inference.settings import is_whole


def predict_chunks(
    posterior: AbstractPosterior,
    chunks: Iterable[Frame],
    level: float | None,
    keep: Sequence[str],
    as_written: Iterator[Frame] | None = None,
    **named: Any,
) -> Iterator[Frame]:
    """Yield a table of predictions for each table of new rows.

    Args:
        posterior: the posterior of a model of tables.
        chunks: the new rows.
        level: the probability of the intervals; None is that of conformal sets where the posterior
            has them, and 0.9 otherwise.
        keep: the columns of the new rows to put before their predictions.
        as_written: these columns of each table of new rows, as the file has them; by default those
            of the rows.
        **named: what `post.predict` takes, such as `groups` of a formula.

    Raises:
        DataError: for rows that cannot be predicted, with their numbers among all rows; or a column
            to keep that is absent or has the name of one of the predictions.
    """
    before = 0
    for chunk in chunks:
        rows = chunk.reset_index(drop=True)
        absent = [name for name in keep if name not in rows.columns]
        if absent:
            raise DataError(f"keep={absent[0]!r}: expected one of {list(rows.columns)[:20]}.")
        try:
            prediction = posterior.predict(rows, **named)
            # sets have a level of their own
            table = prediction.to_pandas() if level is None else prediction.to_pandas(level)
        except DataError as error:
            raise in_later_rows(error, before) from None
        twice = [name for name in keep if name in table.columns]
        if twice:
            raise DataError(f"keep={twice[0]!r}: the predictions have a column of that name.")
        kept = rows if as_written is None or not keep else next(as_written)
        for place, name in enumerate(keep):
            table.insert(place, name, kept[name].array)
        before += len(rows)
        yield table


def predict_file(
    posterior: AbstractPosterior,
    data: str | Path,
    out: str | Path,
    level: float | None = None,
    keep: Sequence[str] = (),
    sep: str = ",",
    encoding: str = "utf-8",
    rows_at_once: Integer = CHUNK,
) -> int:
    """Predict the rows of a CSV or Parquet file, and write the predictions as they come.

    Memory does not grow with the number of rows. Files are Parquet by their ending (".parquet",
    ".pq"), otherwise CSV.

    Args:
        posterior: the posterior of a model of tables.
        data: the file of new rows, with the columns of the training table.
        out: the file to write, with the columns of a prediction's `to_pandas`.
        level: the probability of the intervals; None is that of conformal sets where the posterior
            has them, and 0.9 otherwise.
        keep: columns of the new rows to put before their predictions, such as an id.
        sep: what stands between the cells of a CSV file that is read.
        encoding: the encoding of its text.
        rows_at_once: the number of rows in memory at once.

    Returns:
        The number of rows.

    Raises:
        DataError: for rows that cannot be predicted; then no file is written.

    Example:
        `bdl.predict_file(post, "rows.parquet", "predictions.csv", keep=["id"])`
    """
    if Path(data).resolve() == Path(out).resolve():
        raise DataError(f"predict_file(out={str(out)!r}): it is the file that is read.")
    if not is_whole(rows_at_once):
        raise DataError(f"rows_at_once={rows_at_once!r}: expected a whole number of at least 1.")
    chunks, as_written = read_new_rows(posterior, Path(data), keep, sep, encoding, rows_at_once)
    with TableWriter(Path(out)) as file:
        for table in predict_chunks(posterior, chunks, level, keep, as_written):
            file.write(table)
        return file.rows


def read_new_rows(
    posterior: AbstractPosterior,
    path: Path,
    keep: Sequence[str],
    sep: str,
    encoding: str,
    num_rows: Integer = CHUNK,
) -> tuple[Iterator[Frame], Iterator[Frame]]:
    """Return the rows of a file as a posterior reads them, and the columns to keep as they are.

    Args:
        posterior: the posterior, which knows which columns hold categories.
        path: the file.
        keep: the columns to keep.
        sep: what stands between the cells of a CSV file.
        encoding: the encoding of its text.
        num_rows: the number of rows in memory at once.
    """
    texts = posterior.model.text_columns(posterior.schema)
    chunks = read_chunks(path, sep, encoding, int(num_rows), texts)
    return chunks, read_as_written(path, keep, sep, encoding, int(num_rows))
