"""The layout of chains: on how many devices, and in turn or side by side on each.

The devices are those of all processes. So under `jax.distributed` the chains of one run are
spread over several hosts, and every process returns the same draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inference.core.typing import PyTree, StoredArrays

# Compiling with this level takes a quarter of the time; most of it goes into random numbers.
QUICK_COMPILATION = {"xla_backend_optimization_level": 1}
CHAIN_METHODS = ("auto", "sequential", "vectorized", "parallel")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The devices of a run, and how the chains of one device are mapped.

    Attributes:
        num_devices: the number of devices; each has equally many chains.
        vectorized: whether the chains of one device run side by side, rather than in turn.
    """

    num_devices: int
    vectorized: bool

    @property
    def mesh(self) -> Mesh:
        """The devices as a mesh with one axis, "chain"."""
        return Mesh(np.array(jax.devices()[: self.num_devices]), ("chain",))

    def describe(self, num_chains: int) -> str:
        """Describe the layout, e.g. "4 chains on 2 cpu devices, one after another on each"."""
        kind = jax.devices()[0].platform
        each = num_chains // self.num_devices
        how = "" if each == 1 else ", side by side" if self.vectorized else ", one after another"
        on_each = " on each" if how and self.num_devices > 1 else ""
        chains = f"{num_chains} chain{'s' if num_chains > 1 else ''}"
        devices = f"{self.num_devices} {kind} device{'s' if self.num_devices > 1 else ''}"
        return f"{chains} on {devices}{how}{on_each}"


def choose_layout(chain_method: str, num_chains: int, cheap_steps: bool = False) -> Layout:
    """Choose the layout for a number of chains.

    On a processor it is faster to map one chain after another where steps are heavy and of
    unequal length, as those of NUTS. Vectorising is faster on an accelerator, and where steps
    are cheap.

    Args:
        chain_method: one of `CHAIN_METHODS`.
        num_chains: the number of chains.
        cheap_steps: whether steps are cheap and of equal length.
    """
    devices = jax.device_count()
    if chain_method == "parallel":
        return Layout(num_chains, False)
    spread = max(d for d in range(1, min(devices, num_chains) + 1) if num_chains % d == 0)
    vectorized = chain_method == "vectorized" or (
        chain_method == "auto" and (cheap_steps or jax.default_backend() != "cpu")
    )
    one_device = chain_method == "sequential" and jax.process_count() == 1
    return Layout(1 if one_device else spread, vectorized)


def reason_unsupported(chain_method: str, num_chains: int) -> str | None:
    """Return the reason why chains cannot be laid out by this method, or None."""
    devices = jax.device_count()
    if jax.process_count() > 1 and num_chains % devices:
        return (
            f"{jax.process_count()} processes with {devices} devices need a multiple of "
            f"{devices} chains, got {num_chains}"
        )
    if chain_method != "parallel" or devices >= num_chains:
        return None
    return (
        f"chain_method='parallel' needs a device per chain, got num_chains={num_chains} and "
        f"{devices} device(s); use chain_method='auto', fewer chains, or call "
        "numpyro.set_host_device_count first"
    )


def over_chains(function: Callable, layout: Layout, quick: bool = False) -> Callable:
    """Compile `function(state, *shared)` of one chain into a function of all chains.

    Args:
        function: a JAX function of one chain's state and of arrays that all chains share.
        layout: the devices over which the leading axis of the states is spread.
        quick: whether the function does so little that optimising it takes longer than running
            it.
    """
    chains, same = PartitionSpec("chain"), PartitionSpec()

    def one_device(states: PyTree, *shared: PyTree) -> PyTree:
        def one(state: PyTree) -> PyTree:
            return function(state, *shared)

        return jax.vmap(one)(states) if layout.vectorized else jax.lax.map(one, states)

    def all_chains(states: PyTree, *shared: PyTree) -> PyTree:
        specs = (chains, *(same for _ in shared))
        return jax.shard_map(
            one_device, mesh=layout.mesh, in_specs=specs, out_specs=chains, check_vma=False
        )(states, *shared)

    options = QUICK_COMPILATION if quick and jax.default_backend() == "cpu" else None
    return jax.jit(all_chains, compiler_options=options)


def place(states: PyTree, layout: Layout) -> PyTree:
    """Spread the states of all chains over the devices, as compiled blocks leave them.

    So the first block is not compiled twice.
    """
    sharding = NamedSharding(layout.mesh, PartitionSpec("chain"))
    if jax.process_count() == 1:
        return jax.device_put(states, sharding)

    def over_processes(leaf: jax.Array | np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(
            leaf.shape, sharding, lambda index: np.asarray(leaf)[index]
        )

    return with_keys(jax.tree.map(over_processes, without_keys(states)), states)


def replicate(shared: PyTree, layout: Layout) -> PyTree:
    """Copy what all chains share to all devices of a layout, so that no block has to."""
    if jax.process_count() > 1:
        return shared
    return jax.device_put(shared, NamedSharding(layout.mesh, PartitionSpec()))


def to_host(tree: PyTree) -> PyTree:
    """Return arrays as NumPy arrays, gathered from all processes if there are several."""

    def one(leaf: object) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def to_arrays(states: PyTree) -> StoredArrays:
    """Return the leaves of the chains' states as plain arrays, random keys as their data."""
    leaves = jax.tree.leaves(to_host(without_keys(states)))
    return {f"{number:03d}": leaf for number, leaf in enumerate(leaves)}


def from_arrays(arrays: StoredArrays, structure: PyTree, layout: Layout) -> PyTree:
    """Rebuild the states from what `to_arrays` returned.

    Args:
        arrays: the leaves.
        structure: states of the same structure, or their shapes.
        layout: the devices over which the states are spread.
    """
    leaves = [arrays[f"{number:03d}"] for number in range(len(arrays))]
    states = jax.tree.unflatten(jax.tree.structure(structure), leaves)
    return place(with_keys(states, structure), layout)


def without_keys(states: PyTree) -> PyTree:
    """Replace random keys by their data."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, states)


def with_keys(states: PyTree, like: PyTree) -> PyTree:
    """Turn data of random keys into keys again, wherever `like` has a key."""
    return jax.tree.map(
        lambda leaf, old: jax.random.wrap_key_data(leaf) if is_key(old) else leaf, states, like
    )


def is_key(leaf: object) -> bool:
    """Return whether a leaf, or its shape and dtype, is a random key."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
