"""Compare draws, fits and predictions of two checkouts bit for bit.

    python -m tools.compare_draws OLD NEW [--json FILE]

runs `tools/drawn_arrays.py` with the packages of each checkout, one after the other, and prints
which arrays are equal. The exit code is 1 where one is not. A change that only moves code must
leave everything equal on the same machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SCRIPT = Path(__file__).resolve().with_name("drawn_arrays.py")
PACKAGE = "package.txt"


class ComparisonError(RuntimeError):
    """A checkout that cannot be run."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The comparison of one array.

    Attributes:
        case: the case that the array belongs to.
        name: the name of the array.
        equal: whether shape, dtype and all bits are the same.
        difference: the largest absolute difference, NaN where it cannot be computed.
        note: another difference, in words.
    """

    case: str
    name: str
    equal: bool
    difference: float = 0.0
    note: str = ""


def run_script(checkout: Path, folder: Path) -> None:
    """Run the script with the packages of a checkout.

    Raises:
        ComparisonError: where the script fails, or imports other packages than those.
    """
    folder.mkdir()
    env = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), str(folder)], env=env, cwd=folder, check=False
    )
    if done.returncode:
        raise ComparisonError(f"The script failed on {checkout} with exit code {done.returncode}.")
    package = Path((folder / PACKAGE).read_text())
    if not package.is_relative_to(checkout):
        raise ComparisonError(f"{checkout} was to be run, and {package} was imported.")


def compare_folders(old: Path, new: Path) -> list[Row]:
    """Compare all arrays of two folders that the script wrote."""
    cases = sorted({p.stem for folder in (old, new) for p in folder.iterdir() if p.name != PACKAGE})
    return [row for case in cases for row in compare_case(case, old, new)]


def compare_case(case: str, old: Path, new: Path) -> list[Row]:
    """Compare the arrays of one case."""
    failed = [
        folder / f"{case}.txt" for folder in (old, new) if not (folder / f"{case}.npz").exists()
    ]
    if failed:
        reason = (
            failed[-1].read_text().strip().splitlines()[-1] if failed[-1].exists() else "no arrays"
        )
        return [Row(case, "", False, float("nan"), f"failed in {len(failed)} of 2: {reason}")]
    one, other = np.load(old / f"{case}.npz"), np.load(new / f"{case}.npz")
    return [compare_array(case, name, one, other) for name in sorted({*one.files, *other.files})]


def compare_array(case: str, name: str, one: Any, other: Any) -> Row:
    """Compare an array of this name in two files."""
    if name not in one.files or name not in other.files:
        return Row(
            case,
            name,
            False,
            float("nan"),
            "only in the " + ("old" if name in one.files else "new"),
        )
    a, b = one[name], other[name]
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return Row(case, name, False, float("nan"), f"{a.dtype}{a.shape} became {b.dtype}{b.shape}")
    equal = a.tobytes() == b.tobytes()
    return Row(case, name, equal, 0.0 if equal else largest_difference(a, b))


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest absolute difference; NaN for texts, or where one value alone is NaN."""
    if a.dtype.kind not in "biuf" or (np.isnan(a.astype(float)) != np.isnan(b.astype(float))).any():
        return float("nan")
    return float(np.nanmax(np.abs(a.astype(float) - b.astype(float)), initial=0.0))


def format_table(rows: list[Row]) -> str:
    """Format the rows as text, with the counts in the last line."""
    names = [f"{row.case}: {row.name}" if row.name else row.case for row in rows]
    width = max(map(len, names), default=0) + 2
    lines = [f"{'array':<{width}}equal  largest difference"]
    for name, row in zip(names, rows, strict=True):
        difference = "" if row.equal else f"{row.difference:.3g} {row.note}".rstrip()
        lines.append(f"{name:<{width}}{'yes' if row.equal else 'NO':<5}  {difference}".rstrip())
    return "\n".join([*lines, f"{sum(row.equal for row in rows)} of {len(rows)} arrays are equal"])


def count_equal(rows: list[Row]) -> dict[str, Any]:
    """Count the arrays and those that are equal, and list the others, as plain data."""
    different = [
        dataclasses.asdict(row) | {"difference": finite_or_none(row.difference)}
        for row in rows
        if not row.equal
    ]
    cases = sorted({row.case for row in rows})
    return {
        "arrays": len(rows),
        "equal": len(rows) - len(different),
        "cases": {case: all(row.equal for row in rows if row.case == case) for case in cases},
        "different": different,
    }


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON has it: without NaN."""
    return value if np.isfinite(value) else None


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(description="Compares draws of two checkouts bit for bit.")
    parser.add_argument("old", type=Path, help="the checkout before a change")
    parser.add_argument("new", type=Path, help="the checkout after it")
    parser.add_argument("--json", type=Path, help="a file for the counts")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        old, new = Path(temporary) / "old", Path(temporary) / "new"
        run_script(given.old.resolve(), old)
        run_script(given.new.resolve(), new)
        rows = compare_folders(old, new)
    print(format_table(rows))
    if given.json:
        given.json.write_text(json.dumps(count_equal(rows), indent=1) + "\n")
    return 0 if rows and all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
