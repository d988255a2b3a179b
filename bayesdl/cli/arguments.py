"""Parts of the parsers: one style of help and of errors, and the types of the arguments."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from bayesdl.cli.words import near
from bayesdl.data.reading import CHOICES, PERIODS

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


class Parser(argparse.ArgumentParser):
    """A parser that shows errors in one line, in the words of every other error."""

    def error(self, message: str) -> NoReturn:
        message += self._suggestion(message)
        self.exit(2, f"bayesdl: error: {message} (see `{self.prog} --help`)\n")

    def _suggestion(self, message: str) -> str:
        """Return a name near to the one that was not understood, if there is one."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            return near(choice[1], re.findall(r"[\w-]+", choice[2]))
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        return near(unknown[1], self._options()) if unknown else ""

    def _options(self) -> set[str]:
        """Return the options of this parser and of its commands."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    found |= set(command._option_string_actions)
        return found


class Formatter(argparse.HelpFormatter):
    """The same help from every version of Python: `-o, --out FILE`, columns of one width.

    Args:
        prog: the name of the program.
        room: the width that the names of commands need.
    """

    def __init__(self, prog: str, room: int = 0) -> None:
        super().__init__(prog, max_help_position=26)
        self._action_max_length = room

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        metavar = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {metavar}"


def add_command(
    commands: Commands, prog: str, name: str, usage: str, text: str
) -> argparse.ArgumentParser:
    """Add a command to those of a parser.

    Args:
        commands: the commands of the parser.
        prog: what a user writes before the command.
        name: the command.
        usage: its arguments in short.
        text: what it does, beginning with a verb.
    """
    added = commands.add_parser(
        name,
        usage=f"{prog} {name} {usage}",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=Formatter,
    )
    added.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return added


def add_settings(added: argparse.ArgumentParser, owners: str) -> None:
    """Add the options that every fit takes.

    Args:
        added: the parser of the command.
        owners: what the settings belong to, and examples.
    """
    added.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help=f"a setting of {owners}; repeat for more, and a wrong key lists the possible ones",
    )
    added.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="of all randomness (default: 0)"
    )


def add_level(added: argparse.ArgumentParser) -> None:
    """Add the probability of intervals, 0.9 where none is given."""
    added.add_argument(
        "--level",
        metavar="P",
        type=level,
        default=0.9,
        help="probability of the intervals (default: 0.9)",
    )


def add_bundle(added: argparse.ArgumentParser) -> None:
    """Add the path of a saved posterior."""
    added.add_argument("bundle", metavar="BUNDLE", type=Path, help="written by `bayesdl fit`")


def add_rows(added: argparse.ArgumentParser, verb: str) -> None:
    """Add the file of rows with targets that a command scores or draws."""
    added.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help=f"rows to {verb} (default: those that `fit` held out, where they lie beside BUNDLE)",
    )
    add_file_format(added)


def add_file_format(added: argparse.ArgumentParser) -> None:
    """Add the options that say how a CSV file is written."""
    added.add_argument(
        "--sep",
        metavar="CHARACTER",
        type=separator,
        default=",",
        help="what stands between the cells of a CSV file: ; | tab (default: ,)",
    )
    added.add_argument(
        "--encoding",
        metavar="NAME",
        default="utf-8",
        help="of a CSV file, e.g. latin-1 (default: utf-8)",
    )


def add_table(added: argparse.ArgumentParser, name: str) -> None:
    """Add the table that a command reads, by the name that it has in the usage."""
    added.add_argument(
        "data", metavar=name, type=Path, help="CSV or Parquet; a header line names the columns"
    )


def add_drop(added: argparse.ArgumentParser) -> None:
    """Add the option that leaves out columns."""
    added.add_argument(
        "--drop",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column to leave out, such as an id; repeat for more",
    )


def add_reading(added: argparse.ArgumentParser) -> None:
    """Add the options that say how a table is read; they are the settings of `Reading`."""
    add_drop(added)
    added.add_argument(
        "--weights", metavar="COLUMN", help="how much each row counts; no input of the model"
    )
    for flag, text in (
        ("missing", "missing cells: the median with a column that says so, without it, or refused"),
        ("missing-target", "rows whose target is missing"),
        ("unseen", "categories that training rows had not"),
    ):
        choices = CHOICES[flag.replace("-", "_")]
        added.add_argument(
            f"--{flag}",
            choices=choices,
            default=choices[0],
            metavar="WORD",
            help=f"{text}: {', '.join(choices)} (default: {choices[0]})",
        )
    added.add_argument(
        "--periods",
        metavar="WORD",
        choices=tuple(PERIODS),
        action="append",
        default=[],
        help=f"a period of dates: {', '.join(PERIODS)}; repeat for more",
    )
    add_file_format(added)


def separator(text: str) -> str:
    """Return the character between cells; "tab" is one."""
    character = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(text, text)
    if len(character) != 1:
        raise argparse.ArgumentTypeError(f"{text}: expected one character, or tab")
    return character


def seed(text: str) -> int:
    """Return a seed as JAX and NumPy take it."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 0 to {2**31 - 1}")
    return int(text)


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of whole numbers of at least `least`."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least {least}")
        return int(text)

    return whole_number


def share(text: str) -> float:
    """Return a number of users, or a fraction of them."""
    value = number(text)
    if not value >= 0 or (value >= 1 and value != round(value)):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, or a fraction below 1")
    return value


def level(text: str) -> float:
    """Return a probability."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a probability between 0 and 1")
    return value


def positive(text: str) -> float:
    """Return a number above zero."""
    value = number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above zero")
    return value


def number(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text}: expected a number")
    return value
