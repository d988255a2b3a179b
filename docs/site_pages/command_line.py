"""The page of the command line, made from the parser itself."""

from __future__ import annotations

import argparse
import os

from bayesdl.cli.parser import parser


def page() -> str:
    """Return the help of every command."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "90"
    try:
        parts = ["# Command line", "", "Made from the parser of `bayesdl`."]
        parts += [
            part for name, one in commands("bayesdl", parser()) for part in section(name, one)
        ]
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    return "\n".join(parts) + "\n"


def section(name: str, command: argparse.ArgumentParser) -> list[str]:
    """Return the section of one command."""
    return ["", f"## {name}", "", "```text", command.format_help().rstrip(), "```"]


def commands(
    name: str, command: argparse.ArgumentParser
) -> list[tuple[str, argparse.ArgumentParser]]:
    """List a command and those below it, by their full names."""
    found = [(name, command)]
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for key, one in action.choices.items():
                found += commands(f"{name} {key}", one)
    return found
