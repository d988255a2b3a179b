"""Files of prior-data fitted networks: zips of `manifest.json` and `arrays.safetensors`."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.requirements import program_hash
from bayesdl.amortized.trained_network import TrainedNetwork
from bayesdl.model.base import AbstractModel
from bayesdl.saving.archive import LIBRARIES, SCHEMA, BundleError, read, restoring, write
from bayesdl.saving.bundle import resolve_model
from bayesdl.saving.integrity import SigningKey
from bayesdl.saving.writing import model_data
from inference.amortized.kinds import init_network
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.tasks import Tasks
from inference.core.typing import Info, Program, StoredArrays
from inference.distributions.bars import Grid, Grids

KIND = "bayesdl-pfn"

# The entries of a manifest.
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


def save_network(trained: TrainedNetwork, path: str | Path, key: SigningKey = None) -> Path:
    """Write a network to a file; see `PFN.save`."""
    manifest = {
        "format": KIND,
        "schema": SCHEMA,
        "model": model_data(trained.model),
        "shape": dataclasses.asdict(trained.network.shape),
        "program": program_hash(trained.tasks),
        "weights": trained.hash,
        "tasks": trained.tasks.settings(),
        "facts": trained.facts,
        "certificate": trained.certificate,
        "versions": {name: version(name) for name in LIBRARIES},
    }
    arrays = {f"network/{name}": np.asarray(leaf) for name, leaf in _named_arrays(trained.network)}
    for name, grid in trained.grids._asdict().items():
        if grid is not None:
            arrays[f"{name}/edges"] = np.asarray(grid.edges)
            arrays[f"{name}/scales"] = np.asarray(grid.scales)
    return write(Path(path), manifest, arrays, {}, key)


def load_network(
    path: str | Path, model: AbstractModel | Program | None = None, key: SigningKey = None
) -> TrainedNetwork:
    """Read a network from a file; see `PFN.load`."""
    path = Path(path)
    manifest, arrays, _ = read(path, KIND, KEYS, "pfn.save(...)", key)
    with restoring(path):
        return _restore(path, manifest, arrays, model)


def _restore(
    path: Path, manifest: Info, arrays: StoredArrays, model: AbstractModel | Program | None
) -> TrainedNetwork:
    """Return the network of what a file holds, and of the code that was given."""
    spec = resolve_model(manifest["model"], model, path, "bdl.PFN.load")
    unit = manifest["shape"].get("unit")
    shape = Shape(**manifest["shape"] | {"unit": unit and tuple(unit)})
    # nothing larger than the file is made to compare with it
    stored = sum(values.size for values in arrays.values())
    if shape.layers > len(arrays):
        raise BundleError(f"{path} is damaged: {shape.layers} layers with {len(arrays)} arrays.")
    for name, size in dataclasses.asdict(shape).items():
        if isinstance(size, int) and not 0 <= size <= stored:
            raise BundleError(f"{path} is damaged: {name}={size} with {stored} stored numbers.")
    settings = dict(manifest["tasks"])
    settings |= {name: tuple(settings[name]) for name in ("num_inputs", "latents")}
    program, _ = spec.simulator(shape.num_classes)
    if "network/0" in arrays:
        raise BundleError(
            f"{path} was saved by an earlier version, which named its arrays otherwise: "
            "train it again."
        )
    network = _read_weights(shape, arrays, path)
    grids = Grids(*(_read_grid(arrays, name) for name in Grids._fields))
    tasks = Tasks(program, **settings)
    # Other versions of these libraries change the hash of the same program.
    same_libraries = all(
        version(name) == manifest["versions"].get(name) for name in ("jax", "numpyro")
    )
    if (
        "code" in manifest["model"]
        and same_libraries
        and _program_hash_or_none(tasks) != manifest["program"]
    ):
        raise BundleError(
            f"{path} holds a network that was trained on another program: "
            f"give {spec} as it was in training."
        )
    trained = TrainedNetwork(
        spec, tasks, network, grids, manifest["facts"], manifest["certificate"]
    )
    if trained.hash != manifest["weights"]:
        raise BundleError(
            f"{path} holds other weights than those its certificate is of: "
            "it was changed after it was saved."
        )
    return trained


def _program_hash_or_none(tasks: Tasks) -> str | None:
    """Return the hash of the program, or None if it cannot be drawn from."""
    # A user's program may fail in any way.
    try:
        return program_hash(tasks)
    except Exception:
        return None


def _read_grid(arrays: StoredArrays, name: str) -> Grid | None:
    """Return a stored grid, or None if there is none of this name."""
    if f"{name}/edges" not in arrays:
        return None
    return Grid(jnp.asarray(arrays[f"{name}/edges"]), jnp.asarray(arrays[f"{name}/scales"]))


def _read_weights(shape: Shape, arrays: StoredArrays, path: Path) -> AbstractNetwork:
    """Return the network of stored arrays.

    Raises:
        BundleError: if the arrays are those of another network.
    """
    with jax.enable_x64(False):
        blank = eqx.filter_eval_shape(init_network, shape, jax.random.key(0))
    found = []
    for name, expected in _named_arrays(blank):
        got = arrays.get(f"network/{name}")
        if got is None or got.shape != expected.shape:
            what = "no array" if got is None else f"shape {got.shape}"
            raise BundleError(
                f"{path} holds the weights of another network: array {name} has {what}, "
                f"expected {expected.shape}."
            )
        found.append(jnp.asarray(got))
    return jax.tree.unflatten(jax.tree.structure(blank), found)


def _named_arrays(network: AbstractNetwork) -> list[tuple[str, Any]]:
    """Return the arrays of a network with their names, which are the names of its fields."""
    paths, _ = jax.tree_util.tree_flatten_with_path(network)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in paths]
