"""Helpers of the tests of the command line."""

import json

import pytest

from bayesdl.cli import main as cli

GP = ["--model", "gp", "--set", "num_restarts=1", "--set", "ard=false"]


def refused(capsys, *arguments):
    """The message of a command that must fail: one line, exit code 2, nothing on stdout."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bayesdl: error: ")
    assert err.count("\n") == 1
    return err


def answer(capsys, *arguments, code=0):
    """The JSON object that a command prints."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments), "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
