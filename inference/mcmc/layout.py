"""Where chains run: how many devices they are spread over, one after another or side by side on each.

The devices are those of all processes, so under `jax.distributed` the chains of one run are spread over several hosts;
every process gives the same draws.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

QUICK = {"xla_backend_optimization_level": 1}  # a fourth of the time, mostly that of random numbers
CHAIN_METHODS = ("auto", "sequential", "vectorized", "parallel")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The devices of a run, and whether the chains of one device are vectorised."""

    num_devices: int
    vectorized: bool

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(jax.devices()[: self.num_devices]), ("chain",))

    def describe(self, num_chains: int) -> str:
        """In words, e.g. "4 chains on 2 cpu devices, one after another on each"."""
        kind = jax.devices()[0].platform
        each = num_chains // self.num_devices
        how = "" if each == 1 else ", side by side" if self.vectorized else ", one after another"
        on_each = " on each" if how and self.num_devices > 1 else ""
        many = "s" if self.num_devices > 1 else ""
        return f"{num_chains} chain{'s' if num_chains > 1 else ''} on {self.num_devices} {kind} device{many}{how}{on_each}"


def choose_layout(chain_method: str, num_chains: int, light: bool = False) -> Layout:
    """The layout for so many chains.

    Mapping one chain after another is the faster way on a processor where steps are heavy and of unequal length (as
    those of NUTS), vectorising on an accelerator and where steps are `light`.
    """
    devices = jax.device_count()
    if chain_method == "parallel":
        return Layout(num_chains, False)
    spread = max(d for d in range(1, min(devices, num_chains) + 1) if num_chains % d == 0)
    vectorized = chain_method == "vectorized" or (
        chain_method == "auto" and (light or jax.default_backend() != "cpu")
    )
    return Layout(
        1 if chain_method == "sequential" and jax.process_count() == 1 else spread, vectorized
    )


def reason_unsupported(chain_method: str, num_chains: int) -> str | None:
    """The reason why chains cannot be laid out as asked, or None."""
    devices = jax.device_count()
    if jax.process_count() > 1 and num_chains % devices:
        return f"{jax.process_count()} processes with {devices} devices need a multiple of {devices} chains, got {num_chains}"
    if chain_method != "parallel" or devices >= num_chains:
        return None
    return (
        f"chain_method='parallel' needs a device per chain, got num_chains={num_chains} and {devices} device(s); use "
        "chain_method='auto', fewer chains, or call numpyro.set_host_device_count first"
    )


def over_chains(function: Any, layout: Layout, quick: bool = False) -> Any:
    """Compiles `function(state, *shared)` of one chain into one of all chains, spread over the layout's devices.

    A `quick` function does so little that compiling it well takes longer than running it.
    """
    chains, same = PartitionSpec("chain"), PartitionSpec()

    def one_device(states: Any, *shared: Any) -> Any:
        def one(state: Any) -> Any:
            return function(state, *shared)

        return jax.vmap(one)(states) if layout.vectorized else jax.lax.map(one, states)

    def all_chains(states: Any, *shared: Any) -> Any:
        specs = (chains, *(same for _ in shared))
        return jax.shard_map(
            one_device, mesh=layout.mesh, in_specs=specs, out_specs=chains, check_vma=False
        )(states, *shared)

    return jax.jit(
        all_chains, compiler_options=QUICK if quick and jax.default_backend() == "cpu" else None
    )


def place(states: Any, layout: Layout) -> Any:
    """States of all chains spread over the devices as blocks leave them, so that the first block is not compiled twice."""
    sharding = NamedSharding(layout.mesh, PartitionSpec("chain"))
    if jax.process_count() == 1:
        return jax.device_put(states, sharding)

    def over_processes(leaf: Any) -> Any:
        return jax.make_array_from_callback(
            leaf.shape, sharding, lambda index: np.asarray(leaf)[index]
        )

    return with_keys(jax.tree.map(over_processes, without_keys(states)), states)


def replicate(given: Any, layout: Layout) -> Any:
    """What all chains share on all devices of a layout, so that no block has to bring it there."""
    if jax.process_count() > 1:
        return given
    return jax.device_put(given, NamedSharding(layout.mesh, PartitionSpec()))


def to_host(tree: Any) -> Any:
    """Arrays as NumPy's, gathered from all processes where there are several."""

    def one(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def to_arrays(states: Any) -> dict[str, np.ndarray]:
    """The leaves of the chains' states as plain arrays, random keys as their data."""
    leaves = jax.tree.leaves(to_host(without_keys(states)))
    return {f"{number:03d}": leaf for number, leaf in enumerate(leaves)}


def from_arrays(arrays: dict[str, np.ndarray], structure: Any, layout: Layout) -> Any:
    """The inverse of `freeze`, given states of the same structure (or their shapes)."""
    leaves = [arrays[f"{number:03d}"] for number in range(len(arrays))]
    return place(
        with_keys(jax.tree.unflatten(jax.tree.structure(structure), leaves), structure), layout
    )


def without_keys(states: Any) -> Any:
    """Random keys as their data."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, states)


def with_keys(states: Any, like: Any) -> Any:
    """The inverse of `without_keys`."""
    return jax.tree.map(
        lambda leaf, old: jax.random.wrap_key_data(leaf) if is_key(old) else leaf, states, like
    )


def is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
