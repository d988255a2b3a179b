"""The output of commands: lines for a person, or one JSON object for a program."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from bayesdl.checks.convergence import Diagnosis
from bayesdl.cli.tables import to_json
from bayesdl.posterior.posterior import Posterior
from bayesdl.warnings import TrustWarning
from inference.process.quiet import quiet


def print_result(options: Namespace, result: dict[str, Any], lines: list[str]) -> int:
    """Print a result and return exit code 0.

    Args:
        options: the parsed options; `json` prints for a program.
        result: the result as data.
        lines: the result for a person.
    """
    print(to_json(result) if options.json else "\n".join(lines))
    return 0


def quiet_diagnosis(posterior: Posterior) -> Diagnosis:
    """Return the diagnosis without its warning, since the verdict is printed."""
    with quiet(TrustWarning):
        return posterior.diagnose()


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as data for JSON."""
    return {"ok": diagnosis.ok, "verdict": list(diagnosis.verdict), "facts": diagnosis.facts}


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """Return a diagnosis as lines of text."""
    return repr(diagnosis).splitlines()
