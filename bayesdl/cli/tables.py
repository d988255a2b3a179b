"""Tables in files as the command line reads and writes them: CSV, or Parquet by its ending.

Files are written beside their final place and renamed, so that no half-written file is left.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bayesdl.typing import Frame, Series

PARQUET = (".parquet", ".pq")


class UsageError(ValueError):
    """A use of the command line that cannot work; the message says what to do."""


def is_parquet(path: Path) -> bool:
    """Return whether a path has the ending of a Parquet file."""
    return path.suffix.lower() in PARQUET


def read_table(path: Path) -> Frame:
    """Read a DataFrame from a CSV or Parquet file.

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
        table = pd.read_parquet(path) if is_parquet(path) else pd.read_csv(path)
    except pd.errors.EmptyDataError:
        raise UsageError(f"{path} is empty: expected a header line and rows.") from None
    # pandas and pyarrow raise ValueErrors for a malformed file
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read as {kind}: {error}") from None
    if not len(table):
        raise UsageError(f"{path} has no rows: got the columns {list(table.columns)[:10]} alone.")
    return table


def write_table(table: Frame, path: Path) -> None:
    """Write a DataFrame as CSV or Parquet."""
    require_parquet(path)
    if is_parquet(path):
        replace(path, lambda beside: table.to_parquet(beside, index=False))
    else:
        replace(path, lambda beside: table.to_csv(beside, index=False))


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
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror or error}.") from None
    finally:
        # a name that is too long has been refused above
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


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
        )
    return table.drop(columns=name), table[name]


def hold_out(table: Frame, fraction: float, seed: int, labels: str | None) -> np.ndarray:
    """Return which rows to hold out, drawn at random, shape (rows,).

    Rows whose text or class label no other row would carry stay in training.

    Args:
        table: the data.
        fraction: the share of the rows; 0 holds out none.
        seed: the seed of the draw.
        labels: the name of the target's column where it holds class labels, otherwise None.

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
    texts = [name for name in table.columns if table[name].dtype.kind not in "iufb"]
    for name in dict.fromkeys([*texts, *([labels] if labels else [])]):
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
