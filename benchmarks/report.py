"""Writing results of benchmarks: JSON with the device and the versions that made them."""

from __future__ import annotations

import json
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
    path.write_text(json.dumps({"device": device.device_kind, "versions": versions, **results}, indent=1) + "\n")
    print(f"wrote {path}")
    return path
