"""What sparse fits cost; used through `bayesdl.sparse`."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import Any

import numpy as np

from bayesdl.posterior.posterior import Posterior
from bayesdl.sparse.fitted import sparse_parts
from inference.core.typing import Info
from inference.sparse.patterns.layout import Layout


@dataclasses.dataclass(frozen=True)
class SparseReport:
    """What a sparse posterior costs, beside dense mean-field VI of the same network.

    Attributes:
        layers: the shape, active weights, density and kernel of each layer by name.
        active: the number of active weights in all.
        density: the number of active weights divided by the number of all weights.
        bytes_stored: the bytes of parameters and indices.
        bytes_persistent: the same with the optimiser's state added.
        bytes_temporary: the most bytes that a step or an exchange needed besides, as XLA says.
        bytes_dense: the bytes of the parameters of dense mean-field VI, and these with Adam's
            state.
        operations: the floating-point operations of the products of a step divided by those of
            dense mean-field VI, exchanges included.
        exchanges: the steps after which weights were exchanged, and what share of them.
        elbo: the ELBO over the last steps, in nats, for the network whose other weights are zero.
        beta: the factor of the KL divergence.
        notes: other facts to know.
    """

    layers: dict[str, dict[str, Any]]
    active: int
    density: float
    bytes_stored: int
    bytes_persistent: int
    bytes_temporary: int
    bytes_dense: tuple[int, int]
    operations: float
    exchanges: list[dict]
    elbo: float
    beta: float
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [f"{'layer':<20}{'shape':>16}{'active':>10}{'density':>10}  kernel"]
        for name, facts in self.layers.items():
            shape = " x ".join(map(str, facts["shape"]))
            lines.append(
                f"{name:<20}{shape:>16}{facts['active']:>10}{100 * facts['density']:>8.2f} %  "
                f"{facts['kernel']}"
            )
        tempered = "" if self.beta == 1 else f"; fitted with beta={self.beta:g}, not 1"
        lines += [
            f"{'in all':<36}{self.active:>10}{100 * self.density:>8.2f} %",
            f"stored       {_readable_bytes(self.bytes_stored)}; dense VI "
            f"{_readable_bytes(self.bytes_dense[0])}",
            f"in training  {_readable_bytes(self.bytes_persistent)} with the optimiser's state; "
            f"dense VI with Adam {_readable_bytes(self.bytes_dense[1])}",
            f"a step needs {_readable_bytes(self.bytes_temporary)} besides, for its rows and noise",
            f"products     {100 * self.operations:.1f} % of dense VI's operations",
            f"exchanges    {len(self.exchanges)}" + _describe_decay(self.exchanges),
            f"ELBO         {self.elbo:.5g} nats (a bound on the joint density of y and the biases "
            f"that are points){tempered}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def _readable_bytes(size: int) -> str:
    """Return a number of bytes in readable units."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _describe_decay(exchanges: list[dict]) -> str:
    """Say how the share of exchanged weights decayed."""
    if not exchanges:
        return ""
    first, last = exchanges[0], exchanges[-1]
    return (
        f", of {100 * first['share']:.1f} % after step {first['step']} to "
        f"{100 * last['share']:.1f} % after step {last['step']}"
    )


def report(post: Posterior) -> SparseReport:
    """Report weights, bytes, operations and exchanges of a fit with `SSVI`.

    Raises:
        UnsupportedError: for a fit with another engine.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 50)[:, None]
        >>> model = bdl.BNN(hidden=(20, 20))
        >>> engine = bdl.SSVI(density=0.3, steps=200)
        >>> post = bdl.fit(model, X, np.sin(3 * X[:, 0]), engine=engine, progress=False)
        >>> report(post).density <= 0.3
        True
    """
    raw, decompression = sparse_parts(post)
    info, layout = raw.info, decompression.layout
    layers = {name: _layer_facts(name, layout, info) for name in layout.shapes}
    total, active = sum(map(math.prod, layout.shapes.values())), sum(info["active"].values())
    sizes, work = info["bytes_in_training"], info["operations"]
    others = sum(
        np.asarray(value).nbytes
        for name, value in raw.params.items()
        if name.rpartition("/")[0] not in layout.patterns
    )
    # dense VI keeps a mean and a scale of 4 bytes for each weight, and Adam two arrays like these
    dense = 2 * 4 * total + others
    return SparseReport(
        layers=layers,
        active=active,
        density=active / total,
        bytes_stored=info["bytes"],
        bytes_persistent=info["bytes"] + sizes["optimizer"],
        bytes_temporary=max(sizes["temporary"].values()),
        bytes_dense=(dense, 3 * dense),
        operations=(work["step"] + work["exchanges_per_step"]) / work["dense"],
        exchanges=info["exchanges"],
        elbo=info["elbo"],
        beta=info["beta"],
        notes=(*info["notes"], *_transient_note(layers)),
    )


def _layer_facts(name: str, layout: Layout, info: Info) -> dict[str, Any]:
    """Return shape, active weights, density and kernel of a layer."""
    shape, active = layout.shapes[name], info["active"][name]
    alone = name in layout.patterns
    return {
        "shape": shape,
        "active": active,
        "density": active / math.prod(shape),
        "kernel": layout.kernels[layout.store_of(name)] if alone else "transient",
    }


def _transient_note(layers: dict[str, dict[str, Any]]) -> list[str]:
    """Return what to know about a transient kernel, where a layer has one."""
    if all(facts["kernel"] != "transient" for facts in layers.values()):
        return []
    return [
        "a transient kernel makes the dense matrix for a moment: it saves memory and no "
        "operations; structure='block:16' and 'fan_in' save both."
    ]
