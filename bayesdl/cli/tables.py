"""Tables in files as the command line reads and writes them: CSV, or Parquet by its ending.

Files are written beside their final place and renamed, so that no half-written file is left.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from bayesdl.cli.words import line_finder, near
from bayesdl.data.files import TableWriter, is_parquet, read_chunks
from bayesdl.data.validation import DataError
from bayesdl.typing import Frame, Series
from inference.process.writing import whole_file, why_not_written

PICTURES = (".png", ".pdf", ".svg")
HOLDOUTS = (".holdout.csv", ".holdout.parquet")
# rows that are looked at before a file is read in parts
FIRST_ROWS = 100


class UsageError(ValueError):
    """A use of the command line that cannot work; the message says what to do."""


def read_table(path: Path, sep: str = ",", encoding: str = "utf-8") -> Frame:
    """Read a DataFrame from a CSV or Parquet file.

    Args:
        path: the file.
        sep: what stands between the cells of a CSV file.
        encoding: the encoding of its text.

    Raises:
        UsageError: for a file that is absent, empty, or not a table.
    """
    import pandas as pd

    with _reading(path, encoding):
        table = (
            pd.read_parquet(path)
            if is_parquet(path)
            else pd.read_csv(path, sep=sep, encoding=encoding)
        )
    _refuse_no_table(table, path, sep)
    return table


def read_first_rows(path: Path, sep: str = ",", encoding: str = "utf-8") -> Frame:
    """Return the first rows of a CSV or Parquet file.

    Args:
        path: the file.
        sep: what stands between the cells of a CSV file.
        encoding: the encoding of its text.

    Raises:
        UsageError: for a file that is absent, empty, or not a table.
    """
    import pandas as pd

    with _reading(path, encoding):
        found = read_chunks(path, sep, encoding, FIRST_ROWS)
        first = next(found, pd.DataFrame())
    _refuse_no_table(first, path, sep)
    return first


def read_parts(chunks: Iterable[Frame], path: Path, encoding: str) -> Iterator[Frame]:
    """Yield the parts of a file, with what readers say of it as one error.

    Raises:
        UsageError: for a file that cannot be read.
    """
    with _reading(path, encoding):
        yield from chunks


def _refuse_no_table(table: Frame, path: Path, sep: str) -> None:
    """Refuse a table without rows, or with other separators.

    Raises:
        UsageError: saying which.
    """
    if not len(table):
        raise UsageError(f"{path} has no rows: got the columns {list(table.columns)[:10]} alone.")
    _refuse_other_separators(path, list(map(str, table.columns)), sep)


@contextlib.contextmanager
def _reading(path: Path, encoding: str) -> Iterator[None]:
    """Turn what readers say of a file into one error that says the cure.

    Raises:
        UsageError: for a file that is absent, empty, or not a table.
    """
    import pandas as pd

    # unlike `Path.is_file` it takes names that are too long
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise UsageError(f"{path} {what}: expected a CSV or Parquet file.")
    require_parquet(path)
    kind = "Parquet" if is_parquet(path) else "CSV"
    try:
        yield
    except pd.errors.EmptyDataError:
        raise UsageError(f"{path} is empty: expected a header line and rows.") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} cannot be read as {kind} in {encoding} ({error.reason}, byte {error.start}): "
            "give its encoding, e.g. --encoding latin-1, cp1252 or utf-16."
        ) from None
    except LookupError:
        raise UsageError(
            f"--encoding {encoding}: unknown, expected e.g. utf-8 or cp1252."
        ) from None
    except DataError:
        raise
    # pandas and pyarrow raise ValueErrors for a malformed file
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read as {kind}: {error}") from None


def lines_of(options: Namespace) -> Callable[[int], str] | None:
    """Return the function that tells the line of a row in the file that a command reads.

    None where it reads no CSV file.
    """
    path = getattr(options, "data", None)
    if path is None or is_parquet(path) or not hasattr(options, "sep"):
        return None
    return line_finder(path, options.sep, options.encoding)


def _refuse_other_separators(path: Path, names: list[str], sep: str) -> None:
    """Refuse a table of one column whose name holds another separator several times or once.

    Raises:
        UsageError: naming the separator.
    """
    found = [other for other in (";", "\t", "|") if other != sep and other in names[0]]
    if len(names) == 1 and found:
        other = {"\t": "tab"}.get(found[0], found[0])
        raise UsageError(
            f"{path} has one column, {names[0]!r:.60}: its cells seem to be separated by another "
            f"character, give it by --sep '{other}'."
        )


def write_table(table: Frame, path: Path) -> None:
    """Write a DataFrame as CSV or Parquet."""
    require_parquet(path)
    if is_parquet(path):
        replace(path, lambda beside: table.to_parquet(beside, index=False))
    else:
        replace(path, lambda beside: table.to_csv(beside, index=False))


def write_parts(parts: Iterable[Frame], path: Path) -> int:
    """Write DataFrames of the same columns one after another; return the number of rows."""
    rows: list[int] = []

    def write(beside: Path) -> None:
        with TableWriter(beside, is_parquet(path)) as file:
            for part in parts:
                file.write(part)
            rows.append(file.rows)

    replace(path, write)
    return rows[0]


def require_parquet(path: Path) -> None:
    """Refuse Parquet where no reader is installed.

    Raises:
        UsageError: saying how to install one.
    """
    if is_parquet(path):
        try:
            import pyarrow  # noqa: F401  # pyright: ignore
        except ImportError:
            raise UsageError(
                f'{path} is Parquet, which needs pyarrow: pip install "bayesdl[parquet]".'
            ) from None


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, and rename it.

    Raises:
        UsageError: where that cannot be done.
    """
    try:
        with whole_file(path) as beside:
            write(beside)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {why_not_written(error)}.") from None


def check_writable(path: Path, *inputs: Path) -> None:
    """Refuse a path that cannot be written, before any work is done for it.

    Args:
        path: the file to write.
        *inputs: the files that must not be overwritten.

    Raises:
        UsageError: saying why.
    """
    folder = path.absolute().parent
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        # a missing folder is refused below
        pass
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.") from None
    if path.is_dir():
        raise UsageError(f"Cannot write {path}: it is a folder.")
    if not folder.is_dir():
        raise UsageError(f"Cannot write {path}: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"Cannot write {path}: the folder {folder} is not writable.")
    if path.resolve() in [source.resolve() for source in inputs]:
        raise UsageError(f"Cannot write {path}: it is the input.")


def holdout_files(path: Path) -> list[Path]:
    """Return where the held-out rows of a bundle may lie: as CSV, or as Parquet."""
    return [path.with_name(path.name + ending) for ending in HOLDOUTS]


def inputs_and_target(table: Frame, name: str, path: Path) -> tuple[Frame, Series]:
    """Return the inputs and the target of a table.

    Args:
        table: the table.
        name: the name of the target's column.
        path: the file of the table, for messages.

    Raises:
        UsageError: where the target column is missing.
    """
    if name not in table.columns:
        raise UsageError(
            f"{path} has no column {name!r} for the target: got {list(table.columns)[:20]}."
            f"{near(name, list(map(str, table.columns)))}"
        )
    return table.drop(columns=name), table[name]


def chosen_columns(table: Frame, flag: str, texts: list[str], path: Path) -> list[str]:
    """Return the columns that a flag names, each alone or with commas between them.

    Args:
        table: the table.
        flag: the flag, for messages.
        texts: what the flag was given.
        path: the file of the table, for messages.

    Raises:
        UsageError: for a name that is no column.
    """
    known = list(map(str, table.columns))
    names: list[str] = []
    for text in texts:
        names += [text] if text in known else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{flag} {name}: {path} has no such column, got {known[:20]}.{near(name, known)}"
            )
    return names


def round_digits(table: Frame, digits: int | None) -> Frame:
    """Return a table with its numbers rounded to significant digits; None leaves them."""
    if digits is None:
        return table

    def rounded(column: Series) -> Series:
        if column.dtype.kind != "f":
            return column
        return column.map(lambda value: float(f"{value:.{digits}g}"))

    return table.apply(rounded)


def hold_out(
    table: Frame,
    fraction: float,
    seed: int,
    labels: str | None,
    categories: list[str] | None = None,
) -> np.ndarray:
    """Return which rows to hold out, drawn at random, shape (rows,).

    Rows whose category or class label no other row would carry stay in training.

    Args:
        table: the data.
        fraction: the share of the rows; 0 holds out none.
        seed: the seed of the draw.
        labels: the name of the target's column where it holds class labels, otherwise None.
        categories: the columns of categories; None for all but those of numbers.

    Raises:
        UsageError: for a fraction outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise UsageError(
            f"--holdout {fraction:g}: expected a fraction of the rows, 0 <= fraction < 1."
        )
    rows = len(table)
    held = np.zeros(rows, dtype=bool)
    count = min(max(1, round(fraction * rows)), rows - 2) if fraction else 0
    if count <= 0:
        return held
    held[np.random.default_rng(seed).permutation(rows)[:count]] = True
    if categories is None:
        categories = [name for name in table.columns if table[name].dtype.kind not in "iufb"]
    for name in dict.fromkeys([*categories, *([labels] if labels else [])]):
        held &= table[name].isin(table[name][~held].unique()).to_numpy()
    return held


def to_json(value: object) -> str:
    """Return one JSON object; numbers that are not finite become null."""
    return json.dumps(_jsonable(value), allow_nan=False)


def _jsonable(value: object) -> object:
    """Return a value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
