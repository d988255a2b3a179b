"""What `VBEM` and `EM` return: the posterior of a circuit's numbers, and its exact predictive."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.circuits.layout import Layout
from inference.circuits.leaves import Weights
from inference.circuits.model import TractableCircuit, sites_of_weights
from inference.circuits.predictive import CircuitPredictive, ExpectedPredictive
from inference.circuits.statistics import (
    Moments,
    Prior,
    Statistics,
    draw_weights,
    mean_weights,
    predictive_weights,
)
from inference.core.engine import require
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive, AbstractResult, PredictiveModel
from inference.core.typing import Info, Key, SiteArrays, StoredArrays

# circuits whose spread is the epistemic part
EPISTEMIC_DRAWS = 30


@dataclasses.dataclass(frozen=True, eq=False)
class CircuitResult(AbstractResult):
    """The posterior of a circuit's numbers.

    Attributes:
        structure: the circuit with its prior and its rows.
        statistics: the expected statistics of all rows.
        info: facts about the run as plain data.
        num_draws: the number of draws that stand for the posterior.
        at_mode: whether the answer is the mode alone.
    """

    structure: TractableCircuit
    statistics: Statistics
    info: Info = dataclasses.field(default_factory=dict)
    num_draws: int = 100
    at_mode: bool = False

    def expected(self) -> Weights:
        """Return the circuit that is the predictive of a new row."""
        made = mean_weights if self.at_mode else predictive_weights
        with jax.enable_x64(True):
            given = jax.tree.map(jnp.asarray, (self.structure.prior, self.statistics))
            return _compiled(made)(*given)

    def draws(self, key: Key, number: int) -> Weights:
        """Return circuits drawn from the posterior, along a leading axis.

        Args:
            key: the key.
            number: how many.
        """
        with jax.enable_x64(True):
            if self.at_mode:
                one = self.expected()
                return jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * number), one)
            given = jax.tree.map(jnp.asarray, (self.structure.prior, self.statistics))
            return _draw_many(*given, jax.random.split(key, number))

    def arrays(self) -> StoredArrays:
        found = self.statistics
        named = {"roots": found.roots, "edges": found.edges}
        named |= {f"levels/{i}": leaf for i, leaf in enumerate(found.levels)}
        for i, moments in enumerate(found.moments):
            named |= {f"moments/{i}/{name}": leaf for name, leaf in moments._asdict().items()}
        return {name: np.asarray(leaf) for name, leaf in named.items()}

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        one = require(model.predictive(problem), CircuitPredictive, "A circuit is needed.")
        key = named_key(jax.random.key(0), "epistemic parts")
        drawn = self.draws(key, min(self.num_draws, EPISTEMIC_DRAWS))
        return ExpectedPredictive(one.layout, one.column, self.expected(), drawn)

    def latent_draws(
        self, key: Key, latents: Collection[str], samples: Callable[[], StoredArrays]
    ) -> StoredArrays:
        """Return no draws: the predictive is exact without them."""
        return {}

    def site_samples(self, key: Key) -> StoredArrays:
        drawn = self.sample(key, self.num_draws)
        return {name: np.asarray(leaf)[None] for name, leaf in drawn.items()}

    def sample(self, key: Key, num_samples: int) -> SiteArrays:
        layout = self.structure.layout
        with jax.enable_x64(True):
            return _many_sites(layout, self.draws(key, num_samples))

    @property
    def label(self) -> str:
        layout = self.structure.layout
        trees = len(layout.roots)
        forest = f"{trees} trees of " if trees > 1 else ""
        nodes, states = layout.nodes // trees, layout.states
        counts = f"{nodes} node{'s' * (nodes > 1)} with {states} state{'s' * (states > 1)}"
        return forest + counts


@functools.partial(jax.jit, static_argnums=0)
def _many_sites(layout: Layout, weights: Weights) -> SiteArrays:
    """Return the program's sites of circuits along a leading axis."""
    return jax.vmap(lambda one: sites_of_weights(layout, one))(weights)


@functools.cache
def _compiled(function: Callable[..., Weights]) -> Callable[..., Weights]:
    return jax.jit(lambda prior, found: _in_double(function(prior, found)))


@jax.jit
def _draw_many(prior: Prior, found: Statistics, keys: Key) -> Weights:
    """Draw circuits from the posterior, one for each key."""
    return _in_double(jax.lax.map(lambda one: draw_weights(prior, found, one), keys))


def _in_double(weights: Weights) -> Weights:
    """Return probabilities in double precision, with sums of one."""

    def one(logs: Any, axes: tuple[int, ...]) -> jax.Array:
        logs = jnp.asarray(logs, float)
        return logs - jax.nn.logsumexp(logs, axis=axes, keepdims=True)

    levels = tuple(one(leaf, (-1,)) for leaf in weights.levels)
    return Weights(one(weights.roots, (-2, -1)), one(weights.edges, (-1,)), levels, weights.normals)


def restore_statistics(arrays: StoredArrays) -> Statistics:
    """Return statistics from what `CircuitResult.arrays` gave."""
    levels = [arrays[f"levels/{i}"] for i in range(_count(arrays, "levels/", ""))]
    moments = [
        Moments(*(arrays[f"moments/{i}/{name}"] for name in Moments._fields))
        for i in range(_count(arrays, "moments/", "/count"))
    ]
    return Statistics(arrays["roots"], arrays["edges"], tuple(levels), tuple(moments))


def _count(arrays: StoredArrays, prefix: str, suffix: str) -> int:
    return sum(name.startswith(prefix) and name.endswith(suffix) for name in arrays)
