"""Writing results of benchmarks: JSON with the device and the versions that made them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent / "results"


def write(name: str, results: dict[str, Any]) -> Path:
    """Writes results/NAME.json, or results/NAME-CARD.json on an accelerator."""
    device = jax.devices()[0]
    card = "" if device.platform == "cpu" else "-" + device.device_kind.replace(" ", "-").lower()
    versions = {package: version(package) for package in ("bayesdl", "jax", "numpyro")}
    path = RESULTS / f"{name}{card}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({"device": device.device_kind, "versions": versions, **results}, indent=1) + "\n"
    )
    print(f"wrote {path}")
    return path


def run_parts(
    name: str, parts: Iterable[str], one: Callable[[str], dict], about: str | None
) -> None:
    """Runs the parts asked for on the command line; the others keep what results/NAME.json has of
    them.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=list(parts))
    asked = parser.parse_args().parts
    if set(asked) - set(parts):
        parser.error(f"unknown part in {asked}: expected {' or '.join(parts)}")
    path = RESULTS / f"{name}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    results = {part: stored[part] for part in parts if part in stored}
    for part in asked:
        results[part] = one(part)
        write(name, results)
