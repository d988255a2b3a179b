"""What engines return: draws, a fitted approximation, or a predictor without latent draws."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.distributions import Distribution


class Conditional(NamedTuple):
    """The distribution of new data given one draw of the latent variables.

    Attributes:
        law: a NumPyro distribution over y, one batch entry per row.
        epistemic: the part of the law's variance that comes from not knowing the function, per row. It is zero
            where the draw fixes the function.
    """

    law: Distribution
    epistemic: jax.Array


class AbstractResult(abc.ABC):
    """What an engine returns. `arrays()` and `info` are all that has to be stored to restore it."""

    info: dict[str, Any]

    @abc.abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """The result's numbers by name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Draws(AbstractResult):
    """Samples of the latent variables.

    Attributes:
        samples: by site, shape (chain, draw, *site shape); deterministic sites included.
        stats: sampler statistics, shape (chain, draw).
        info: facts about the run as plain data (step size, seconds, ...).
    """

    samples: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"samples/{k}": v for k, v in self.samples.items()} | {f"stats/{k}": v for k, v in self.stats.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], info: dict[str, Any]) -> Draws:
        """The inverse of `arrays`."""

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(part("samples/"), part("stats/"), info)


@dataclasses.dataclass(frozen=True, eq=False)
class Approximation(AbstractResult):
    """A distribution q(z; params) fitted to the posterior.

    Attributes:
        params: the fitted parameters by name.
        draw: maps (key, params) to one draw of the program's sites.
        log_weight: maps (key, params) to log p(y, z) - log q(z) at one draw z ~ q.
        losses: the objective along the optimisation, shape (steps,).
        expansion: values of the latent sites around which the network is linearised, or None.
        info: facts about the run as plain data.
    """

    params: dict[str, np.ndarray]
    draw: Callable[[jax.Array, dict], dict[str, jax.Array]]
    log_weight: Callable[[jax.Array, dict], jax.Array]
    losses: np.ndarray
    expansion: dict[str, np.ndarray] | None = None
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        expansion = self.expansion or {}
        arrays = {f"params/{k}": np.asarray(v) for k, v in self.params.items()} | {"losses": np.asarray(self.losses)}
        return arrays | {f"expansion/{k}": np.asarray(v) for k, v in expansion.items()}

    def sample(self, key: jax.Array, num_samples: int) -> dict[str, jax.Array]:
        """Draws from q, shape (num_samples, *site shape)."""
        return _many(self.draw, num_samples)(jax.random.split(key, num_samples), self.params)

    def log_weights(self, key: jax.Array, num_samples: int) -> jax.Array:
        """Log p(y, z) - log q(z) at draws z ~ q, shape (num_samples,); their mean is the ELBO."""
        return _many(self.log_weight, num_samples)(jax.random.split(key, num_samples), self.params)


def _many(function: Callable, num_samples: int) -> Callable:
    batch = min(num_samples, 64)  # bounds the memory of large programs
    return jax.jit(lambda keys, params: jax.lax.map(lambda key: function(key, params), keys, batch_size=batch))


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor(AbstractResult):
    """A predictive distribution p(y | x, data) with no latent draws.

    Attributes:
        params: everything the prediction needs, by name.
        predict: maps (params, *new data) to a `Conditional`.
        info: facts about the fit as plain data (log evidence, ...).
        traceable: whether `predict` is a JAX function; otherwise it takes and gives NumPy arrays.
    """

    params: dict[str, np.ndarray]
    predict: Callable[..., Conditional]
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    traceable: bool = True

    def arrays(self) -> dict[str, np.ndarray]:
        return {k: np.asarray(v) for k, v in self.params.items()}
