"""The parsers of `bayesdl impute` and `bayesdl outliers`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from bayesdl.cli.arguments import (
    add_drop,
    add_file_format,
    add_settings,
    add_table,
    at_least,
)


def add_impute(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command `impute`.

    Args:
        command: adds a command by its name, usage and purpose.
    """
    added = command(
        "impute",
        "TABLE -o FILE [options]",
        "fill the missing cells of a table, once or several times",
    )
    add_table(added, "TABLE")
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="the filled table, CSV, or Parquet by its ending",
    )
    added.add_argument(
        "--draws",
        metavar="N",
        type=at_least(1),
        help="complete the table N times with drawn cells, a column `draw` tells which (default: "
        "once, with means and most probable categories)",
    )
    _add_learning(added)


def add_outliers(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command `outliers`.

    Args:
        command: adds a command by its name, usage and purpose.
    """
    added = command(
        "outliers",
        "TABLE [-o FILE] [options]",
        "print the cells and rows of a table that are most surprising",
    )
    add_table(added, "TABLE")
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        help="the table with the surprise of each row and cell, CSV, or Parquet by its ending",
    )
    added.add_argument(
        "--top",
        metavar="N",
        type=at_least(1),
        default=10,
        help="how many cells and rows are printed (default: 10)",
    )
    _add_learning(added)


def _add_learning(added: argparse.ArgumentParser) -> None:
    """Add the options that say how the circuit is learned."""
    added.add_argument(
        "--bundle",
        metavar="FILE",
        type=Path,
        help="a saved circuit that knows the table's columns (default: one is learned from TABLE)",
    )
    added.add_argument(
        "--save", metavar="FILE", type=Path, help="save the learned circuit, e.g. table.bdl"
    )
    add_drop(added)
    added.add_argument(
        "--category",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column of numbers that are categories, such as a postcode; repeat for more",
    )
    add_settings(added, "model or engine, e.g. states=4, restarts=3")
    add_file_format(added)
