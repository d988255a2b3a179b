"""Saved prior-data fitted networks: a zip of `manifest.json` and `arrays.safetensors`, no code."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.pfn import PFN
from bayesdl.amortized.requirements import program_hash
from bayesdl.saving.archive import LIBRARIES, SCHEMA, BundleError, read, write
from bayesdl.saving.bundle import resolve_model
from bayesdl.saving.writing import model_data
from inference.amortized.kinds import initial
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.tasks import Tasks
from inference.distributions.bars import Grid, Grids

KIND = "bayesdl-pfn"
KEYS = (
    "schema",
    "model",
    "program",
    "weights",
    "shape",
    "tasks",
    "facts",
    "certificate",
    "versions",
)


def save(pfn: PFN, path: str | Path) -> Path:
    """See `PFN.save`."""
    manifest = {
        "format": KIND,
        "schema": SCHEMA,
        "model": model_data(pfn.model),
        "shape": dataclasses.asdict(pfn.network.shape),
        "program": program_hash(pfn.tasks),
        "weights": pfn.hash,
        "tasks": pfn.tasks.settings(),
        "facts": pfn.facts,
        "certificate": pfn.certificate,
        "versions": {name: version(name) for name in LIBRARIES},
    }
    arrays = {f"network/{name}": np.asarray(leaf) for name, leaf in named(pfn.network)}
    for name, grid in pfn.grids._asdict().items():
        arrays |= (
            {}
            if grid is None
            else {
                f"{name}/edges": np.asarray(grid.edges),
                f"{name}/scales": np.asarray(grid.scales),
            }
        )
    return write(Path(path), manifest, arrays, {})


def load(path: str | Path, model: Any = None) -> PFN:
    """See `PFN.load`."""
    path = Path(path)
    manifest, arrays, _ = read(path, KIND, KEYS, "pfn.save(...)")
    spec = resolve_model(manifest["model"], model, path, "bdl.PFN.load")
    unit = manifest["shape"].get("unit")
    shape = Shape(**manifest["shape"] | {"unit": unit and tuple(unit)})
    tasks = dict(manifest["tasks"])
    tasks |= {name: tuple(tasks[name]) for name in ("num_inputs", "latents")}
    program, _ = spec.simulator(shape.num_classes)
    if "network/0" in arrays:
        raise BundleError(
            f"{path} was saved by an earlier version, which named its arrays otherwise: train it again."
        )
    network = weights(shape, arrays, path)
    grids = Grids(*(grid(arrays, name) for name in Grids._fields))
    tasks = Tasks(program, **tasks)
    same_libraries = all(
        version(name) == manifest["versions"].get(name) for name in ("jax", "numpyro")
    )  # they change the hash
    if (
        "code" in manifest["model"]
        and same_libraries
        and program_hash_or_none(tasks) != manifest["program"]
    ):
        raise BundleError(
            f"{path} holds a network that was trained on another program: give {spec} as it was in training."
        )
    pfn = PFN(spec, tasks, network, grids, manifest["facts"], manifest["certificate"])
    if pfn.hash != manifest["weights"]:
        raise BundleError(
            f"{path} holds other weights than those its certificate is of: it was changed after it was saved."
        )
    return pfn


def program_hash_or_none(tasks: Tasks) -> str | None:
    """The hash of the program; None where it cannot be drawn from, as the one trained on could."""
    try:
        return program_hash(tasks)
    except Exception:  # a user's program may fail in any way
        return None


def grid(arrays: dict[str, np.ndarray], name: str) -> Grid | None:
    """A stored grid, or None."""
    if f"{name}/edges" not in arrays:
        return None
    return Grid(jnp.asarray(arrays[f"{name}/edges"]), jnp.asarray(arrays[f"{name}/scales"]))


def weights(shape: Shape, arrays: dict[str, np.ndarray], path: Path) -> AbstractNetwork:
    """The network of stored arrays.

    Raises:
        BundleError: where they are those of another network.
    """
    with jax.enable_x64(False):
        blank = eqx.filter_eval_shape(initial, shape, jax.random.key(0))
    found = []
    for name, expected in named(blank):
        got = arrays.get(f"network/{name}")
        if got is None or got.shape != expected.shape:
            what = "no array" if got is None else f"shape {got.shape}"
            raise BundleError(
                f"{path} holds the weights of another network: array {name} has {what}, expected {expected.shape}."
            )
        found.append(jnp.asarray(got))
    return jax.tree.unflatten(jax.tree.structure(blank), found)


def named(network: AbstractNetwork) -> list[tuple[str, Any]]:
    """A network's arrays and their names."""
    paths, _ = jax.tree_util.tree_flatten_with_path(network)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in paths]
