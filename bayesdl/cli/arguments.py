"""Parts of the parsers: one style of help and of errors, and the types of the arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


class Parser(argparse.ArgumentParser):
    """A parser that shows errors in one line, in the words of every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bayesdl: error: {message} (see `{self.prog} --help`)\n")


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
