"""Functional tensors as a NumPyro program, and the predictive distribution given a draw of it.

The functions of each mode are whitened states, see `inference.state_space.whitened`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro import handlers

from bayesdl.gp.hyperparameters import sample_hyperparameter, scale_prior
from bayesdl.model import likelihoods
from bayesdl.model.language import NUMPYRO
from bayesdl.tensor.mode import Mode
from inference.core.result import AbstractPredictive, Conditional
from inference.core.typing import Key
from inference.messages.forms import multiply_all
from inference.state_space.matern import Kernel
from inference.state_space.whitened import draw_bridge, function_values, unwhiten

# The default prior of a length scale has the range of the index over `LENGTHS` as its median, and
# `SPREAD` as the standard deviation of its logarithm.
LENGTHS = 10.0
SPREAD = 1.5


@dataclasses.dataclass(frozen=True, eq=False)
class TensorProgram:
    """The program at given positions.

    Its sites are whitened states, scales, length scales, the core and the noise.

    Attributes:
        model: a `FunBaT`, with its likelihood in units of the target.
        positions: the sorted and distinct positions of each mode.
    """

    model: Any
    positions: tuple

    def __call__(self, X: Any, y: Any = None) -> None:
        model, noise = self.model, {}
        kernels_ = self.kernels_at(None)
        for mode, x in zip(model.modes, self.positions, strict=True):
            shape = (len(x), mode.smoothness + 1 + (mode.constant is not None), mode.rank)
            noise[mode.name] = numpyro.sample(
                f"{mode.name}.noise", dist.Normal(0.0, 1.0).expand(shape).to_event(3)
            )
        computed = self.states(kernels_, noise)
        found: list[Any] = [
            numpyro.deterministic(f"{mode.name}.functions", function_values(mode.smoothness, Z))
            for mode, Z in zip(model.modes, computed, strict=True)
        ]
        core: Any = None
        if model.form == "tucker":
            core = numpyro.sample(
                "core", dist.Normal(0.0, 1.0).expand(model.ranks).to_event(len(model.ranks))
            )
        parameters = model.likelihood.parameters(1, NUMPYRO)
        with numpyro.plate("entries", X.shape[0]) as rows:
            X, y = jnp.asarray(X)[rows], None if y is None else jnp.asarray(y)[rows]
            places = [
                jnp.searchsorted(jnp.asarray(x), X[:, k]) for k, x in enumerate(self.positions)
            ]
            f = _combine_modes(
                [values[place] for values, place in zip(found, places, strict=True)], core
            )
            numpyro.sample(
                "y", model.likelihood.distribution(f[:, None], parameters, NUMPYRO), obs=y
            )

    def states(self, kernels_: tuple, noise: Mapping[str, jax.Array]) -> list[jax.Array]:
        """Return the states of each mode from whitened ones."""
        return [
            unwhiten(mode.smoothness, kernel, jnp.asarray(x), noise[mode.name])
            for mode, kernel, x in zip(self.model.modes, kernels_, self.positions, strict=True)
        ]

    def kernels_at(self, values: Mapping[str, jax.Array] | None) -> tuple[Kernel, ...]:
        """Return the kernel of each mode; learned numbers are sampled, or taken from `values`."""

        def draw(
            site: str,
            value: ArrayLike | dist.Distribution | None,
            default: dist.Distribution,
            shape: tuple[int, ...] = (),
        ) -> Any:
            if value is not None and not isinstance(value, dist.Distribution):
                return jnp.asarray(value, float)
            if values is not None:
                return values[site]
            return sample_hyperparameter(site, value, default, shape)

        found = []
        for k, (mode, x) in enumerate(zip(self.model.modes, self.positions, strict=True)):
            median = math.log((x[-1] - x[0]) / LENGTHS)
            length = draw(
                f"{mode.name}.lengthscale", mode.matern.lengthscale, dist.LogNormal(median, SPREAD)
            )
            variance = 1.0 if mode.matern.variance is None else mode.matern.variance
            variance = draw(f"{mode.name}.variance", variance, scale_prior())
            constant = None
            if mode.constant is not None:
                given = 1.0 if mode.constant.variance is None else mode.constant.variance
                constant = draw(f"{mode.name}.constant", given, scale_prior()) / variance
            scales = jnp.ones(mode.rank)
            if self.model.relevance and (self.model.form == "tucker" or k == 0):
                scales = draw(self.scales_name(mode), None, dist.HalfNormal(1.0), (mode.rank,))
            found.append(Kernel(length, constant, variance * scales**2))
        return tuple(found)

    def scales_name(self, mode: Mode) -> str:
        """Return the site of the scales of a mode's functions, in "cp" of the products."""
        return f"{mode.name}.scales" if self.model.form == "tucker" else "scales"

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The names of the sites that `kernels_at` samples."""
        return tuple(
            handlers.trace(handlers.seed(self.kernels_at, jax.random.key(0))).get_trace(None)
        )


def _combine_modes(values: list, core: jax.Array | None) -> jax.Array:
    """Combine the functions' values, each of shape (n, r), into f at each row."""
    if core is None:
        return multiply_all(values).sum(1)
    found = jnp.broadcast_to(core, (len(values[0]), *core.shape))
    # one mode of the core after the other
    for value in values:
        found = jnp.einsum("nj...,nj->n...", found, value)
    return found


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class DrawnTensorPredictive(AbstractPredictive):
    """The distribution of new entries given a draw of the latent sites.

    Functions at new indexes are drawn given the known states beside them.
    """

    program: TensorProgram = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: Mapping, key: Key, X: ArrayLike) -> Conditional:
        program, X = self.program, jnp.asarray(X)
        model, kernels_ = program.model, program.kernels_at(latents)
        computed = program.states(
            kernels_, {mode.name: latents[f"{mode.name}.noise"] for mode in model.modes}
        )
        values = []
        for k, (mode, kernel, x, Z) in enumerate(
            zip(model.modes, kernels_, program.positions, computed, strict=True)
        ):
            drawn = draw_bridge(
                mode.smoothness, kernel, jnp.asarray(x), Z, X[:, k], jax.random.fold_in(key, k)
            )
            values.append(function_values(mode.smoothness, drawn))
        f = _combine_modes(values, latents.get("core"))
        distribution = model.likelihood.distribution(f[:, None], self.parameters(latents), NUMPYRO)
        return Conditional(distribution, jnp.zeros(len(X)))

    def parameters(self, latents: Mapping) -> object:
        """Return the parameters of the likelihood at one posterior draw."""
        likelihood = self.program.model.likelihood
        if isinstance(likelihood, likelihoods.StudentT):
            return latents.get("df", likelihood.df), latents.get("sigma", likelihood.scale)
        return latents.get("sigma", getattr(likelihood, "scale", None))
