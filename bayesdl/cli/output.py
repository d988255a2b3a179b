"""The output of commands: lines for a person, or one JSON object for a program."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from bayesdl.cli.tables import to_json


def print_result(options: Namespace, result: dict[str, Any], lines: list[str]) -> int:
    """Print a result and return exit code 0.

    Args:
        options: the parsed options; `json` prints for a program.
        result: the result as data.
        lines: the result for a person.
    """
    print(to_json(result) if options.json else "\n".join(lines))
    return 0
