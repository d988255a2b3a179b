"""Costs, masks, smaller budgets and guides of sparse fits; used through `bayesdl.sparse`."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayesdl.posterior.posterior import Posterior
from inference.core.result import Approximation
from inference.sparse.engine import SSVI
from inference.sparse.posterior import Unpacking
from inference.sparse.prune import pruned


def unpacking_of(post: Posterior) -> tuple[Approximation, Unpacking]:
    """The parts of a sparse fit.

    Raises:
        TypeError: for a fit by another engine.
    """
    raw = post.raw if isinstance(post, Posterior) else None
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
            lines.append(
                f"{name:<20}{shape:>16}{facts['active']:>10}{100 * facts['density']:>8.2f} %  {facts['kernel']}"
            )
        lines += [
            f"{'in all':<36}{self.active:>10}{100 * self.density:>8.2f} %",
            f"stored       {amount(self.bytes_stored)}; dense VI {amount(self.bytes_dense[0])}",
            f"in training  {amount(self.bytes_persistent)} with the optimiser's state; dense VI with Adam "
            f"{amount(self.bytes_dense[1])}",
            f"a step needs {amount(self.bytes_temporary)} besides, for its rows and noise",
            f"products     {100 * self.operations:.1f} % of dense VI's operations",
            f"exchanges    {len(self.exchanges)}" + shares(self.exchanges),
            f"ELBO         {self.elbo:.5g} nats (a bound on the joint density of y and the biases that are points)"
            + ("" if self.beta == 1 else f"; fitted with beta={self.beta:g}, not 1"),
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def amount(size: int) -> str:
    """Bytes in readable units."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def shares(exchanges: list[dict]) -> str:
    """From the first to the last."""
    if not exchanges:
        return ""
    first, last = exchanges[0], exchanges[-1]
    return f", of {100 * first['share']:.1f} % after step {first['step']} to {100 * last['share']:.1f} % after step {last['step']}"


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
            "kernel": layout.kernels[layout.store_of(name)]
            if name in layout.patterns
            else "transient",
        }
        for name, shape in layout.shapes.items()
    }
    total, active = sum(map(math.prod, layout.shapes.values())), sum(info["active"].values())
    sizes, work = info["bytes_in_training"], info["operations"]
    others = sum(
        np.asarray(value).nbytes
        for name, value in raw.params.items()
        if name.rpartition("/")[0] not in layout.patterns
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
        (*info["notes"], *transient_note(layers)),
    )


def transient_note(layers: dict[str, dict[str, Any]]) -> list[str]:
    """What is to be known of a transient kernel."""
    if all(facts["kernel"] != "transient" for facts in layers.values()):
        return []
    return [
        "a transient kernel makes the dense matrix for a moment: it saves memory and no operations; structure='block:16' and "
        "'fan_in' save both."
    ]


def masks(post: Posterior) -> dict[str, np.ndarray]:
    """Which weights of each layer are active, shape (out, in, ...)."""
    _, unpacking = unpacking_of(post)
    ones = {
        name: jnp.ones(pattern.values_shape) for name, pattern in unpacking.layout.patterns.items()
    }
    return {
        name: np.asarray(value) > 0
        for name, value in unpacking.layout.matrices(unpacking.index, ones).items()
    }


def rebudget(post: Posterior, density: float | None = None) -> Posterior:
    """The same posterior with fewer weights: those of the lowest score are set to zero, without further training.

    Args:
        post: a fit by `SSVI`.
        density: of the new budget, below that of the fit; None removes the weights or neurons without which the evidence is
            larger (Bayesian model reduction), for unstructured fits and neurons, with normal priors.

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
    gone = sum(pattern.size for pattern in unpacking.layout.patterns.values()) - sum(
        p.size for p in layout.patterns.values()
    )
    note = f"{gone} weights were removed after the fit, so its ELBO does not hold; post.diagnose() tells that of this posterior."
    info = raw.info | engine.kept(layout, params, raw.info["places"])
    info |= {"elbo": math.nan, "divergence": math.nan, "notes": [*info["notes"], note]}
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

        packed: dict[str, Any] = {
            name: jnp.asarray(raw.params[f"{name}/point"]) for name in sites.points
        }
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
