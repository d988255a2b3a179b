"""Tables in files, read and written a part at a time: memory does not grow with the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bayesdl.data.validation import DataError
from bayesdl.typing import Frame, Series
from inference.process.writing import whole_file

PARQUET = (".parquet", ".pq")
# rows in memory at once
CHUNK = 50_000
ROWS = re.compile(r"\b(rows?) (\d+(?:, \d+)*)(?![\d)]* (?:and|columns|rows))")


def is_parquet(path: Path) -> bool:
    """Return whether a path has the ending of a Parquet file."""
    return path.suffix.lower() in PARQUET


def read_chunks(
    path: Path,
    sep: str = ",",
    encoding: str = "utf-8",
    num_rows: int = CHUNK,
    texts: Sequence[str] = (),
) -> Iterator[Frame]:
    """Yield the rows of a CSV or Parquet file as DataFrames.

    Args:
        path: the file.
        sep: what stands between the cells of a CSV file.
        encoding: the encoding of its text.
        num_rows: the largest number of rows of a DataFrame.
        texts: the columns of a CSV file that are text, whatever they look like in some rows.
    """
    if is_parquet(path):
        import pyarrow
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=num_rows):
                # as a table, which knows what pandas wrote about its columns
                yield pyarrow.Table.from_batches([batch]).to_pandas()
    else:
        import pandas as pd

        types: dict[Any, Any] = dict.fromkeys(texts, "str")
        with pd.read_csv(
            path, sep=sep, encoding=encoding, chunksize=num_rows, dtype=types
        ) as reader:
            yield from reader


def read_as_written(
    path: Path,
    names: Sequence[str],
    sep: str = ",",
    encoding: str = "utf-8",
    num_rows: int = CHUNK,
) -> Iterator[Frame]:
    """Yield some columns of a CSV or Parquet file, such as ids, without a loss.

    Cells of a CSV file are numbers only where these would be written with the same characters:
    "007" and "12345678901234567890" are texts.

    Args:
        path: the file.
        names: the columns.
        sep: what stands between the cells of a CSV file.
        encoding: the encoding of its text.
        num_rows: the largest number of rows of a DataFrame.
    """
    for chunk in read_chunks(path, sep, encoding, num_rows, names):
        table = chunk[list(names)]
        yield table if is_parquet(path) else table.apply(_without_loss)


def _without_loss(texts: Series) -> Series:
    """Return texts as numbers where that changes no character of them."""
    known = texts.dropna()
    for kind, with_gaps in (("int64", "Int64"), ("float64", "float64")):
        try:
            numbers = known.astype(kind)
        except (ValueError, OverflowError):
            continue
        if len(known) and (numbers.astype(str) == known).all():
            return (
                numbers
                if len(known) == len(texts)
                else (numbers.astype(with_gaps).reindex(texts.index))
            )
    return texts


class TableWriter:
    """Writes DataFrames of the same columns one after another, as CSV or Parquet by the ending.

    Rows go to a file beside the path, which takes its place when all are written: a file that an
    error cut short would look whole.

    Args:
        path: the file.
        parquet: whether to write Parquet; by default by the ending of the path.
    """

    def __init__(self, path: Path, parquet: bool | None = None) -> None:
        self.whole = whole_file(path)
        self.place = path
        self.parquet = is_parquet(path) if parquet is None else parquet
        self.rows, self.begun = 0, False
        self.file: Any = None

    def __enter__(self) -> TableWriter:
        self.place = self.whole.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.file is not None:
            self.file.close()
        kind, value, trace = error
        # without a table there is no file
        if kind is None and not self.begun:
            kind, value = EOFError, EOFError("no table was written")
        self.whole.__exit__(kind, value, trace)

    def write(self, table: Frame) -> None:
        """Append rows.

        Raises:
            DataError: where a column changes its type, which Parquet does not allow.
        """
        if not self.parquet:
            first = not self.begun
            table.to_csv(self.place, mode="w" if first else "a", header=first, index=False)
        else:
            self._write_parquet(table)
        self.rows, self.begun = self.rows + len(table), True

    def _write_parquet(self, table: Frame) -> None:
        import pyarrow
        import pyarrow.parquet

        schema = None if self.file is None else self.file.schema
        try:
            rows = pyarrow.Table.from_pandas(table, schema=schema, preserve_index=False)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise DataError(
                f"From row {self.rows} on a column has another type than before ({error}): write "
                "CSV, or give the column one type."
            ) from None
        if self.file is None:
            self.file = pyarrow.parquet.ParquetWriter(self.place, rows.schema)
        self.file.write_table(rows)


def in_later_rows(error: DataError, before: int) -> DataError:
    """Return an error about some rows of a file as one about the file.

    Args:
        error: the error, which counts the rows from 0.
        before: the number of rows of the file before these.

    Example:
        >>> print(in_later_rows(DataError("Column 'a', row 3 is NaN."), 100))
        Column 'a', row 103 is NaN.
    """

    def later(match: re.Match[str]) -> str:
        numbers = [str(int(row) + before) for row in match[2].split(", ")]
        return f"{match[1]} {', '.join(numbers)}"

    return DataError(*(ROWS.sub(later, problem) for problem in error.problems))
