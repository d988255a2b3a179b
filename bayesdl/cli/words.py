"""Messages in the words of the shell: flags in place of Python arguments, lines in place of rows.

The library speaks to people who write Python. What it says of an argument of `fit` has a flag of
the same meaning here; and a row of a CSV file is known to editors by its line, the header being
line 1.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Callable, Collection
from pathlib import Path

from bayesdl.engines import ENGINES, cli_name

LIKELIHOODS = {"StudentT": "student-t", "NegativeBinomial": "negative-binomial"}
QUOTED = r"['\"]([^'\"]*)['\"]"


def in_shell_words(message: str, line_of: Callable[[int], str] | None = None) -> str:
    """Return a message of the library as the shell says it.

    Args:
        message: what the library said.
        line_of: the place of a row in the file, such as "line 5"; None leaves rows as they are.

    Example:
        >>> in_shell_words("leave it out by drop=['id'], or use likelihood=bdl.Poisson().")
        'leave it out by --drop id, or use --likelihood poisson.'
    """
    for pattern, flag in (
        (r"likelihood=bdl\.(\w+)\(\)", lambda m: f"--likelihood {_likelihood(m[1])}"),
        (r"\bbdl\.(\w+)\(([^()]*)\)", _engine_flag),
        (r"\bdrop=\[([^\]]*)\]", lambda m: _each("--drop", m[1])),
        (r"\bperiods=\[([^\]]*)\]", lambda m: _each("--periods", m[1])),
        (rf"\b(missing|missing_target|unseen)={QUOTED}", _choice_flag),
        (rf"\bpredict\(\.\.\., groups={QUOTED}\)", lambda m: f"--groups {m[1]}"),
        (rf"\bgroups={QUOTED}", lambda m: f"--groups {m[1]}"),
        (rf"\bkeep={QUOTED}", lambda m: f"--keep {m[1]}"),
        (r"\bstandardize=False\b", lambda m: "--set model.standardize=false"),
    ):
        message = re.sub(pattern, flag, message)
    if line_of is None:
        return message
    rows = re.compile(r"\brows? (\d+(?:, \d+)*)(?![\d)]* (?:and|columns|rows))")
    return rows.sub(lambda m: _lines(m[1], line_of), message)


def near(name: str, known: Collection[str]) -> str:
    """Return " Did you mean 'price'?" where a known name is near, otherwise nothing."""
    lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f" Did you mean {lower[found[0]]!r}?" if found else ""


def line_finder(path: Path, sep: str, encoding: str) -> Callable[[int], str]:
    """Return the function that tells the line of a row in a CSV file, as an editor shows it."""
    lines: list[int] = []

    def place(row: int) -> str:
        if not lines:
            lines.extend(_first_lines(path, sep, encoding))
        at = lines[row + 1] if row + 1 < len(lines) else row + 2
        return f"line {at}"

    return place


def _first_lines(path: Path, sep: str, encoding: str) -> list[int]:
    """Return the line on which each record begins, the header first; empty lines are no records."""
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        reader, begins, before = csv.reader(file, delimiter=sep), [], 0
        for record in reader:
            if record:
                begins.append(before + 1)
            before = reader.line_num
    return begins


def _lines(rows: str, line_of: Callable[[int], str]) -> str:
    numbers = [line_of(int(row)).removeprefix("line ") for row in rows.split(", ")]
    return f"line{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _likelihood(name: str) -> str:
    return LIKELIHOODS.get(name, name.lower())


def _engine_flag(match: re.Match[str]) -> str:
    """Return `--engine nuts` for `bdl.NUTS()`; anything else as it is."""
    named = {engine.__name__: cli_name(engine) for engine in ENGINES}
    if match[1] not in named:
        return match[0]
    given = [part.strip().replace("'", "") for part in match[2].split(",") if "=" in part]
    return " ".join([f"--engine {named[match[1]]}", *(f"--set {part}" for part in given)])


def _choice_flag(match: re.Match[str]) -> str:
    return f"--{match[1].replace('_', '-')} {match[2]}"


def _each(flag: str, names: str) -> str:
    found = re.findall(QUOTED, names)
    return " ".join(f"{flag} {name!r}" if " " in name else f"{flag} {name}" for name in found)
