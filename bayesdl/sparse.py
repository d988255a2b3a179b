"""What can be done with a fit by `bayesdl.SSVI`: its costs, a smaller budget, small files, torch, a NumPyro guide.

post = bayesdl.fit(model, X, y, engine=bayesdl.SSVI(density=0.05))
print(bayesdl.sparse.report(post))
bayesdl.sparse.export(post, "network.sparse")     # predicts with NumPy alone
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.conv import ConvNet
from bayesdl.bnn.networks import MLP
from bayesdl.bnn.spec import BNN
from bayesdl.cells import ModelError
from bayesdl.posterior import Posterior
from inference.result import Approximation
from inference.vi.sparse.engine import SSVI
from inference.vi.sparse.family import Sites
from inference.vi.sparse.pattern import BudgetError
from inference.vi.sparse.portable import FORMAT
from inference.vi.sparse.portable import load as load
from inference.vi.sparse.posterior import Unpacking
from inference.vi.sparse.prune import pruned

__all__ = ["BudgetError", "SparseReport", "export", "guide", "load", "masks", "rebudget", "report", "to_torch"]


def unpacking_of(post: Posterior) -> tuple[Approximation, Unpacking]:
    """The parts of a sparse fit.

    Raises:
        TypeError: for a fit by another engine.
    """
    raw = post.raw
    if not isinstance(raw, Approximation) or not isinstance(raw.unpacking, Unpacking):
        raise TypeError(f"Expected a fit by bdl.SSVI, got {post!r}.")
    return raw, raw.unpacking


@dataclasses.dataclass(frozen=True)
class SparseReport:
    """What a sparse posterior costs, beside dense mean-field VI of the same network.

    Attributes:
        layers: by name: shape, active weights, density and kernel.
        active: active weights in all.
        density: active over all weights.
        bytes_stored: of parameters and indices.
        bytes_persistent: the optimiser's state added.
        bytes_temporary: the most that a step or an exchange needed besides; as XLA says.
        bytes_dense: parameters of dense mean-field VI, and these with Adam's state.
        operations: floating-point operations of the products of a step over those of dense mean-field VI, exchanges included.
        exchanges: after which steps weights were exchanged, and what share of them.
        elbo: over the last steps, in nats; of the network whose other weights are zero.
        beta: what the KL divergence was multiplied by.
        notes: what else is to be known.
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
            lines.append(f"{name:<20}{shape:>16}{facts['active']:>10}{100 * facts['density']:>8.2f} %  {facts['kernel']}")
        mb = 1e6
        lines += [
            f"{'in all':<36}{self.active:>10}{100 * self.density:>8.2f} %",
            f"stored      {self.bytes_stored / mb:10.3f} MB, of dense VI's {self.bytes_dense[0] / mb:.3f} MB",
            f"in training {self.bytes_persistent / mb:10.3f} MB, of dense VI's {self.bytes_dense[1] / mb:.3f} MB with Adam; "
            f"besides, for a moment, {self.bytes_temporary / mb:.3f} MB",
            f"products    {100 * self.operations:10.1f} % of dense VI's operations",
            f"exchanges   {len(self.exchanges):10d}" + shares(self.exchanges),
            f"ELBO        {self.elbo:10.5g} nats" + ("" if self.beta == 1 else f"; fitted with beta={self.beta:g}, not 1"),
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def shares(exchanges: list[dict]) -> str:
    """From the first to the last."""
    if not exchanges:
        return ""
    first, last = exchanges[0], exchanges[-1]
    return (
        f", of {100 * first['share']:.1f} % after step {first['step']} to {100 * last['share']:.1f} % after step {last['step']}"
    )


def report(post: Posterior) -> SparseReport:
    """Weights, bytes, operations and exchanges of a fit by `SSVI`.

    Raises:
        TypeError: for a fit by another engine.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 50)[:, None]
        >>> model = bdl.BNN(hidden=(20, 20))
        >>> post = bdl.fit(model, X, np.sin(3 * X[:, 0]), engine=bdl.SSVI(density=0.3, steps=200), progress=False)
        >>> report(post).density <= 0.3
        True
    """
    raw, unpacking = unpacking_of(post)
    info, layout = raw.info, unpacking.layout
    layers = {
        name: {
            "shape": shape,
            "active": info["active"][name],
            "density": info["active"][name] / math.prod(shape),
            "kernel": layout.kernels[layout.store_of(name)] if name in layout.patterns else "transient",
        }
        for name, shape in layout.shapes.items()
    }
    total, active = sum(map(math.prod, layout.shapes.values())), sum(info["active"].values())
    sizes, work = info["bytes_in_training"], info["operations"]
    others = sum(
        np.asarray(value).nbytes for name, value in raw.params.items() if name.rpartition("/")[0] not in layout.patterns
    )
    dense = 2 * 4 * total + others
    return SparseReport(
        layers,
        active,
        active / total,
        info["bytes"],
        info["bytes"] + sizes["optimizer"],
        max(sizes["temporary"].values()),
        (dense, 3 * dense),
        (work["step"] + work["exchanges_per_step"]) / work["dense"],
        info["exchanges"],
        info["elbo"],
        info["beta"],
        tuple(info["notes"]),
    )


def masks(post: Posterior) -> dict[str, np.ndarray]:
    """Which weights of each layer are active, shape (out, in, ...)."""
    _, unpacking = unpacking_of(post)
    ones = {name: jnp.ones(pattern.values_shape) for name, pattern in unpacking.layout.patterns.items()}
    return {name: np.asarray(value) > 0 for name, value in unpacking.layout.matrices(unpacking.index, ones).items()}


def rebudget(post: Posterior, density: float | None = None) -> Posterior:
    """The same posterior with fewer weights: those of the lowest score are set to zero, without further training.

    Args:
        post: a fit by `SSVI`.
        density: of the new budget, below that of the fit; None removes the weights without which the evidence is larger
            (Bayesian model reduction), for unstructured fits with normal priors.

    Raises:
        TypeError: for a fit by another engine.
        BudgetError: for a density that is not smaller, or that leaves a layer empty.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 50)[:, None]
        >>> model = bdl.BNN(hidden=(20, 20))
        >>> post = bdl.fit(model, X, np.sin(3 * X[:, 0]), engine=bdl.SSVI(density=0.3, steps=200), progress=False)
        >>> report(rebudget(post, 0.2)).density <= 0.2
        True
    """
    raw, unpacking = unpacking_of(post)
    assert isinstance(post.engine, SSVI)
    layout, params = pruned(post.engine, unpacking.sites, unpacking.layout, raw.params, density)
    engine = post.engine if density is None else dataclasses.replace(post.engine, density=density)
    info = raw.info | engine.kept(layout, params, raw.info["rows"])
    result = engine.approximation(post.problem, layout, params, raw.losses, info)
    return dataclasses.replace(post, raw=result, engine=engine)


def guide(post: Posterior) -> Any:
    """The fitted q as a NumPyro program with the arguments of the model, for `numpyro.infer.Predictive(model, guide=...)`.

    Active weights are auxiliary sites, those of the model deterministic functions of them; so it is a guide to draw from and
    not one whose density at the sites of the model can be asked for.

    Raises:
        TypeError: for a fit by another engine.
    """
    raw, unpacking = unpacking_of(post)
    sites, layout = unpacking.sites, unpacking.layout

    def program(*args: Any, **kwargs: Any) -> None:
        import numpyro
        import numpyro.distributions as dist

        packed: dict[str, Any] = {name: jnp.asarray(raw.params[f"{name}/point"]) for name in sites.points}
        for name in (*layout.patterns, *sites.normals):
            where = "mean" if name in layout.patterns else "loc"
            loc, scale = (jnp.asarray(raw.params[f"{name}/{part}"]) for part in (where, "scale"))
            law = dist.Normal(loc, scale).to_event(loc.ndim)
            drawn = numpyro.sample(f"{name} (active)", law, infer={"is_auxiliary": True})
            packed[name] = drawn if name in layout.patterns else sites.transform(name)(drawn)
        values = unpacking(packed)
        for name in sites.problem.latents:
            numpyro.sample(name, dist.Delta(values[name]).to_event(jnp.ndim(values[name])))

    return program


def export(post: Posterior, path: str | Path, bfloat16: bool = False) -> Path:
    """Writes indices and moments only: a file that `inference.vi.sparse.portable` reads and predicts from with NumPy alone.

    In single precision it has 10 bytes for each active weight, with `bfloat16` 6, besides biases, row counts and scalings.

    Args:
        post: a fit by `SSVI` of a `BNN` whose inputs are numbers, with a class target or a normal likelihood.
        path: of the file.
        bfloat16: whether to round means and scales to 8 significant bits.

    Raises:
        TypeError: for a fit by another engine.
        ModelError: for a model that such a file cannot hold.
    """
    raw, unpacking = unpacking_of(post)
    from safetensors.numpy import save

    arrays = exported_arrays(post, raw, unpacking)
    about = {"format": FORMAT, **network_facts(post, raw, unpacking)}
    if bfloat16:
        arrays |= {name: value.astype(jnp.bfloat16) for name, value in arrays.items() if name.endswith(("/mean", "/sd"))}
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(save(arrays, {"about": json.dumps(about)}))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def to_torch(post: Posterior) -> Any:
    """The fitted network as a `torch.nn.Module`; see `bayesdl.interop.sparse_torch`.

    Raises:
        TypeError: for a fit by another engine.
        ModelError: for a model that cannot be exported.
    """
    from bayesdl.interop.sparse_torch import SparseModule
    from inference.vi.sparse.portable import SparseNetwork

    raw, unpacking = unpacking_of(post)
    about = {"format": FORMAT, **network_facts(post, raw, unpacking)}
    return SparseModule(SparseNetwork(exported_arrays(post, raw, unpacking), json.loads(json.dumps(about))))


def exported_arrays(post: Posterior, raw: Approximation, unpacking: Unpacking) -> dict[str, np.ndarray]:
    """The arrays of an exported file; see `inference.vi.sparse.portable`."""
    layout, arrays = unpacking.layout, {}
    parts = {
        part: layout.matrices(unpacking.index, {name: jnp.asarray(raw.params[f"{name}/{part}"]) for name in layout.patterns})
        for part in ("mean", "scale")
    }
    biases = biases_of(post, unpacking.sites, raw)
    for layer, mask in masks(post).items():
        flat = mask.reshape(layout.flat_shape(layer))
        mean, sd = (np.asarray(parts[part][layer]).reshape(flat.shape) for part in ("mean", "scale"))
        if not flat.all():
            arrays[f"{layer}/counts"] = narrow(flat.sum(1), flat.shape[1])
            arrays[f"{layer}/columns"] = narrow(np.nonzero(flat)[1], flat.shape[1])
            mean, sd = mean[flat], sd[flat]
        arrays |= {f"{layer}/mean": mean, f"{layer}/sd": sd, f"{layer}/bias": biases[layer]}
    columns = post.frame.columns
    if any(columns.shift) or set(columns.scale) != {1.0}:
        arrays["inputs/shift"], arrays["inputs/scale"] = (np.array(v, np.float32) for v in (columns.shift, columns.scale))
    return arrays


def narrow(values: np.ndarray, largest: int) -> np.ndarray:
    """Whole numbers in 16 bits where they fit."""
    return values.astype(np.uint16 if largest < 2**16 else np.uint32)


def biases_of(post: Posterior, sites: Sites, raw: Approximation) -> dict[str, np.ndarray]:
    """The biases of each layer, by the name of its weights."""
    found = {}
    for latent, seen in sites.network.weights.items():
        if seen in sites.network.matrices:
            continue
        if f"{latent}/point" not in raw.params or latent != seen:
            raise ModelError("Only biases that are points with a fixed prior can be exported: fit with SSVI(biases='point').")
        found[seen.replace(".bias", ".weight")] = np.asarray(raw.params[f"{latent}/point"])
    return found


def network_facts(post: Posterior, raw: Approximation, unpacking: Unpacking) -> dict[str, Any]:
    """What the network is, and how its target is scaled.

    Raises:
        ModelError: for a model that a file cannot hold.
    """
    model, columns, target = post.model, post.frame.columns, post.frame.target
    if not isinstance(model, BNN) or any(columns.levels):
        raise ModelError("Only a BNN whose inputs are all numbers can be exported: encode categories as numbers first.")
    net = model.net
    network = {"kind": type(net).__name__} | dataclasses.asdict(net) if isinstance(net, MLP | ConvNet) else None
    if network is None:
        raise ModelError(f"A network of {type(net).__name__} cannot be exported.")
    kind = target.kind
    about: dict[str, Any] = {"kind": kind}
    if kind == "class":
        about["classes"] = list(target.classes)
    elif type(model.likelihood).__name__ == "Normal" and model.likelihood.scale != "heteroscedastic":
        about |= {"shift": list(target.shift), "scale": list(target.scale), "sigma": sigma_of(post, raw)}
    else:
        raise ModelError(f"A {type(model.likelihood).__name__} likelihood cannot be exported: expected classes or Normal().")
    shapes = {name: list(unpacking.layout.flat_shape(name)) for name in unpacking.layout.shapes}
    return {"layers": shapes, "network": network, "target": about}


def sigma_of(post: Posterior, raw: Approximation) -> list[float]:
    """Mean and sd of log sigma in standardised units."""
    if "sigma/loc" in raw.params:
        return [float(np.ravel(raw.params[f"sigma/{part}"])[0]) for part in ("loc", "scale")]
    fixed = post.model.likelihood.scale / post.frame.target.scale[0]  # pyright: ignore
    return [math.log(fixed), 0.0]
