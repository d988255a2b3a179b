"""What engines return: draws, a fitted approximation, or a predictor without latent draws."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.distributions import Distribution


class Conditional(NamedTuple):
    """The distribution of new data given one draw of the latent variables.

    Attributes:
        distribution: a NumPyro distribution over y, one batch entry per row.
        epistemic: the part of its variance that comes from not knowing the function, per row; of labels their mutual
            information with the function, in nats. It is zero where the draw fixes the function, and NaN where it is not known.
    """

    distribution: Distribution
    epistemic: jax.Array


class AbstractPredictive(abc.ABC):
    """Maps (one draw of the latent sites, key, *new data) to the `Conditional` of new data.

    Final classes are pytrees (`jax.tree_util.register_dataclass`): arrays are their leaves, and the rest is static and
    compares by value. So a law goes into compiled functions as an argument, and equal programs share what was compiled.
    """

    @abc.abstractmethod
    def __call__(self, latents: dict, key: Any, *args: Any, **kwargs: Any) -> Conditional:
        """The conditional of new data; laws of rows that vary together also take `joint=True`."""

    def joint_concern(self, *args: Any, **kwargs: Any) -> str | None:
        """Why joint samples at these new data cannot be trusted, in words."""
        return None

    def mean_concern(self, mean: Any, epistemic: Any) -> str | None:
        """Why means of new data, with these epistemic parts of their variances, cannot be trusted, in words."""
        return None


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
        state: of the chains after the last draw, for going on; empty where the engine cannot.
    """

    samples: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    state: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def length(self) -> int:
        """Draws per chain."""
        return next(iter(self.samples.values())).shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        parts = {"samples": self.samples, "stats": self.stats, "state": self.state}
        return {
            f"{part}/{name}": value
            for part, values in parts.items()
            for name, value in values.items()
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], info: dict[str, Any]) -> Draws:
        """The inverse of `arrays`."""

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(part("samples/"), part("stats/"), info, part("state/"))


class AbstractDecompression(abc.ABC):
    """Maps a draw as it is kept to the program's sites; final classes are pytrees, as those of `AbstractPredictive`."""

    @abc.abstractmethod
    def __call__(self, packed: dict) -> dict:
        """Values of the program's sites."""


@dataclasses.dataclass(frozen=True, eq=False)
class Approximation(AbstractResult):
    """A distribution q(z; params) fitted to the posterior.

    Attributes:
        params: the fitted parameters by name.
        draw: maps (key, params) to one draw of the program's sites.
        log_weight: maps (key, params) to log p(y, z) - log q(z) at one draw z ~ q.
        losses: the objective along the optimisation, shape (steps,).
        expansion: values of the latent sites around which the network is linearised, or None.
        learned: values of the model's own `numpyro.param` sites, by name.
        info: facts about the run as plain data.
        num_draws: draws that predictions use.
        packed: maps (key, params) to one draw in a form that takes less memory, or None where there is none.
        unpacking: from that form to the program's sites.
        weighable: whether a thousand log weights can be computed in a minute or so.
    """

    params: dict[str, np.ndarray]
    draw: Callable[[jax.Array, dict], dict[str, jax.Array]]
    log_weight: Callable[[jax.Array, dict], jax.Array]
    losses: np.ndarray
    expansion: dict[str, np.ndarray] | None = None
    learned: dict[str, Any] = dataclasses.field(default_factory=dict)
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_draws: int = 1000
    packed: Callable[[jax.Array, dict], dict[str, jax.Array]] | None = None
    unpacking: AbstractDecompression | None = None
    weighable: bool = True

    def arrays(self) -> dict[str, np.ndarray]:
        expansion = self.expansion or {}
        arrays = {f"params/{k}": np.asarray(v) for k, v in self.params.items()} | {
            "losses": np.asarray(self.losses)
        }
        return arrays | {f"expansion/{k}": np.asarray(v) for k, v in expansion.items()}

    def sample(self, key: jax.Array, num_samples: int) -> dict[str, jax.Array]:
        """Draws from q, shape (num_samples, *site shape)."""
        return self._many_draws(jax.random.split(key, num_samples), self.params)

    def packed_sample(self, key: jax.Array, num_samples: int) -> dict[str, jax.Array]:
        """The draws of `sample` as they are kept."""
        return self._many_packed(jax.random.split(key, num_samples), self.params)

    def log_weights(self, key: jax.Array, num_samples: int) -> jax.Array:
        """Log p(y, z) - log q(z) at draws z ~ q, shape (num_samples,); their mean is the ELBO."""
        return self._many_weights(jax.random.split(key, num_samples), self.params)

    @functools.cached_property
    def _many_draws(self) -> Callable:
        return many(self.draw)

    @functools.cached_property
    def _many_packed(self) -> Callable:
        return many(self.draw if self.packed is None else self.packed)

    @functools.cached_property
    def _many_weights(self) -> Callable:
        return many(self.log_weight)


def many(function: Callable) -> Callable:
    """The function of one key over many, in batches that bound the memory of large programs."""

    def mapped(keys: jax.Array, params: dict) -> Any:
        return jax.lax.map(lambda key: function(key, params), keys, batch_size=min(len(keys), 64))

    return jax.jit(mapped)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor(AbstractResult):
    """A predictive distribution p(y | x, data) with no latent draws.

    Attributes:
        params: everything the prediction needs, by name.
        predict: maps (params, key, *new data) to a `Conditional`; a law where it is a JAX function.
        info: facts about the fit as plain data (log evidence, ...).
        traceable: whether `predict` is a JAX function; otherwise it takes and gives NumPy arrays.
        rows_correlated: whether `predict` takes `joint=True`; None where it does if the model's rows vary together.
        outside: what of new data lies outside those for which predictions can be trusted, in words; takes the new data.
        latents: the posterior of latent sites that have one, by name.
    """

    params: dict[str, np.ndarray]
    predict: Callable[..., Conditional]
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    traceable: bool = True
    rows_correlated: bool | None = None
    outside: Callable[..., list[str]] = lambda *args, **kwargs: []
    latents: dict[str, AbstractPredictive] = dataclasses.field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        return {k: np.asarray(v) for k, v in self.params.items()}
