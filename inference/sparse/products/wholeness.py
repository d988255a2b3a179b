"""Whether the parts of a file of a sparse network fit together, with NumPy alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def fault_of(
    activations: Collection[str],
    arrays: dict[str, np.ndarray],
    layers: dict,
    network: dict,
    target: dict,
    inputs: dict,
) -> str | None:
    """Return what does not fit together in a file, or None.

    Args:
        activations: the names of the activations that are known.
        arrays: the arrays.
        layers: the shapes of the layers, by name.
        network: what the network is.
        target: what the target is, and how it is scaled.
        inputs: what the inputs are.
    """
    kind, shapes = network["kind"], list(layers.values())
    if kind not in ("MLP", "ConvNet") or network["activation"] not in activations or not shapes:
        return f"a network of kind {kind!r} with activation {network['activation']!r}"
    if kind == "MLP" and network["scaling"] not in ("ntk", "standard"):
        return f"scaling {network['scaling']!r}"
    widths = [width for _, width in shapes], [inputs["width"], *(out for out, _ in shapes[:-1])]
    if kind == "MLP" and widths[0] != widths[1]:
        return f"layers of widths {widths[0]}, expected {widths[1]}"
    stages = len(network["channels"]) * (3 if network["residual"] else 1) if kind != "MLP" else 0
    if kind == "ConvNet" and len(shapes) != stages + 1:
        return f"{len(shapes)} layers, expected {stages + 1}"
    outputs, classes = shapes[-1][0], target.get("classes", ())
    if target["kind"] == "class":
        if outputs not in ({len(classes), 1} if len(classes) == 2 else {len(classes)}):
            return f"{len(classes)} classes for {outputs} outputs"
    else:
        numbers = [*target["shift"], *target["scale"], *target["sigma"]]
        sizes = [len(target[name]) for name in ("shift", "scale", "sigma")]
        positive = min(target["scale"]) > 0 <= target["sigma"][1]
        if sizes != [outputs, outputs, 2] or not np.isfinite(numbers).all() or not positive:
            return f"a target with shift, scale and log sigma {numbers} for {outputs} outputs"
    for name in layers:
        mean, sd, bias = (arrays[f"{name}/{part}"] for part in ("mean", "sd", "bias"))
        if mean.shape != sd.shape or bias.shape != (layers[name][0],) or (sd < 0).any():
            return f"layer {name!r} has parts that do not fit together"
    if "inputs/shift" in arrays and arrays["inputs/shift"].shape != (inputs["width"],):
        return f"inputs scaled by {arrays['inputs/shift'].shape} numbers"
    if "inputs/scale" in arrays and not (arrays["inputs/scale"] > 0).all():
        return "inputs with scales that are not above zero"
    bad = [n for n, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    return f"array {bad[0]!r} is not finite" if bad else None
