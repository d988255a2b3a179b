"""The loop of SSVI: compiled blocks of optimiser steps, and between them compiled exchanges of tiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.keys import named_key
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.budget import GLOBAL
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import prospects
from inference.sparse.training.exchange import Plan, largest, moved, moved_state, plan
from inference.sparse.training.growth import Gradient, best, best_of_layers
from inference.sparse.training.tile_scores import burst_evidence, tile_scores
from inference.sparse.variational.objective import Objective
from inference.sparse.variational.sites import (
    Prior,
    Sites,
    prior_sds,
    scale_of,
    softplus_inverse,
    widened,
)

if TYPE_CHECKING:
    from inference.sparse.engine import SSVI


class State(NamedTuple):
    """All that a run needs to go on.

    Attributes:
        params: "weights" of each store (mean, raw scale), "points", and "normals" (loc, raw scale).
        optimizer: the state of the optimiser.
        index: the active tiles of each store.
    """

    params: dict[str, Any]
    optimizer: Any
    index: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """What is done in a run; all functions are pure, and random numbers depend on the number of the step alone.

    Attributes:
        engine: the settings.
        objective: with the layout of the weights.
        optimizer: of optax.
        total: rows of the data.
        key: of the run.
    """

    engine: SSVI
    objective: Objective
    optimizer: Any
    total: int
    key: jax.Array

    @property
    def layout(self) -> Layout:
        return self.objective.layout

    @property
    def sites(self) -> Sites:
        return self.objective.sites

    def start(self, key: jax.Array) -> State:
        """Random tiles, means drawn from the prior of the active weights, and zero biases."""
        layout = self.layout
        index = {
            name: pattern.draw(named_key(key, f"index {name}"))
            for name, pattern in layout.patterns.items()
        }
        points = {name: jnp.zeros(self.sites.problem.latents[name]) for name in self.sites.points}
        loc = self.sites.start(named_key(key, "sites"))
        raw = softplus_inverse(self.engine.initial_scale)
        normals = {
            name: {"loc": value, "raw": jnp.full_like(value, raw)} for name, value in loc.items()
        }
        priors = self.priors({"normals": normals, "points": points})
        weights = {}
        for name, pattern in layout.patterns.items():
            draw = jax.random.normal(named_key(key, f"means {name}"), pattern.values_shape)
            mean = draw * prior_sds(layout, name, index[name], priors)
            weights[name] = {"mean": mean, "raw": jnp.full_like(mean, raw)}
        params = {"weights": weights, "points": points, "normals": normals}
        return State(params, self.optimizer.init(params), index)

    def priors(self, params: Mapping[str, Any]) -> dict[str, Prior]:
        """The priors of the layers' weights at the centre of q for the other sites."""
        normals = {
            name: self.sites.transform(name)(leaf["loc"])
            for name, leaf in params["normals"].items()
        }
        return self.sites.priors(self.layout, normals | dict(params["points"]))

    def rows(self, key: jax.Array, size: int) -> Any:
        """Numbers of random rows; None for all of them."""
        return (
            None
            if size >= self.total
            else jax.random.randint(named_key(key, "rows"), (size,), 0, self.total)
        )

    def step(self, i: Any, state: State, data: tuple) -> tuple[State, Any]:
        """One step of the optimiser, and the terms of the ELBO before it: likelihood and divergence."""
        import optax

        key = jax.random.fold_in(named_key(self.key, "steps"), i)
        rows = self.rows(key, self.engine.batch_size)

        def loss(params: Any) -> Any:
            terms, _ = self.objective.terms(
                params, state.index, rows, named_key(key, "draws"), data
            )
            return -self.objective.value(terms) / self.total, jnp.stack(terms)

        gradient, terms = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        return State(params, optimizer, state.index), terms

    def block(self, state: State, first: Any, count: Any, data: tuple) -> tuple[State, Any]:
        """`count` steps from number `first` on, and the terms at each, in an array for the longest block, shape (every, 2)."""
        values = jnp.zeros((self.engine.every, 2))

        def body(j: Any, carry: tuple) -> tuple:
            state, values = carry
            state, value = self.step(first + j, state, data)
            return state, values.at[j].set(value)

        return jax.lax.fori_loop(0, count, body, (state, values))

    def exchange(self, state: State, i: Any, rate: Any, data: tuple) -> tuple[State, Any]:
        """The state after an exchange, and the share of the active tiles that were exchanged."""
        key = jax.random.fold_in(named_key(self.key, "exchanges"), i)
        gradients, priors = self.gradients(state, key, data)
        plans = {}
        for store, pattern in self.layout.patterns.items():
            most = largest(pattern, self.engine.rate)
            if most:
                plans[store] = self.plan(
                    store, most, state, gradients, priors, rate, named_key(key, store)
                )
        weights = dict(state.params["weights"])
        for name, made in plans.items():
            raw = softplus_inverse(self.engine.initial_scale)
            weights[name] = {
                "mean": moved(made, weights[name]["mean"], 0.0),
                "raw": moved(made, weights[name]["raw"], raw),
            }
        params = state.params | {"weights": weights}
        optimizer = moved_state(self.optimizer, state.optimizer, params, plans)
        index = state.index | {name: made.index for name, made in plans.items()}
        exchanged = sum((made.fresh.sum() for made in plans.values()), jnp.zeros((), jnp.int32))
        places = sum(made.fresh.size for made in plans.values())
        return State(params, optimizer, index), exchanged / max(places, 1)

    def plan(
        self,
        store: str,
        most: int,
        state: State,
        gradients: Mapping,
        priors: Mapping,
        rate: Any,
        key: jax.Array,
    ) -> Plan:
        """What is exchanged in one store."""
        pattern, index = self.layout.patterns[store], state.index[store]
        leaf, removal = state.params["weights"][store], self.engine.removal
        mean, sd = leaf["mean"], scale_of(leaf["raw"])
        scores = tile_scores(
            self.layout, store, index, mean, sd, priors, removal, named_key(key, "removal")
        )
        gains = scores < 0 if removal == "evidence" else jnp.ones(pattern.index_shape, bool)
        members = self.layout.members(store)
        if self.engine.growth == "random":
            gradients = {
                name: at_random(gradients[name], named_key(key, f"growth {name}"))
                for name, _ in members
            }
        if store == GLOBAL:
            comparable = [
                (
                    start,
                    gradients[name]._replace(weight=widened(priors[name], self.layout, name).sd),
                )
                for name, start in members
            ]
            candidates = best_of_layers(index, comparable, most)
        else:
            gradient = gradients[store]
            if isinstance(priors[store].law, Bursts) and self.engine.growth == "gradient":
                gradient = gradient._replace(
                    prospects=prospects(burst_evidence(self.layout, store, index, mean, sd, priors))
                )
            candidates = best(pattern, index, gradient, most)
        return plan(pattern, index, scores, gains, candidates, rate, named_key(key, "rounding"))

    def gradients(
        self, state: State, key: jax.Array, data: tuple
    ) -> tuple[dict[str, Gradient], dict[str, Any]]:
        """The factors of the gradient by each layer's weights, and their priors.

        Minibatches come one after the other, and of each only the inputs and outputs of the layers are kept.
        """
        number = self.engine.growth_batches
        keys = jax.random.split(key, number)
        probes = {
            name: jnp.zeros(shape) for name, shape in self.output_shapes(state, key, data).items()
        }

        def one(key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
            return jax.grad(lambda probes: self.likelihood(state, key, data, probes), has_aux=True)(
                probes
            )

        outputs, inputs = jax.lax.map(one, keys)
        found = {}
        for name in probes:
            d = jnp.moveaxis(outputs[name], 2, 0).reshape(outputs[name].shape[2], -1) / number
            h = jnp.moveaxis(inputs[name], 1, 0).reshape(inputs[name].shape[1], -1)
            lookup = (
                name in self.sites.network.lookups
            )  # then the inputs say which row of W was taken
            found[name] = Gradient(h, d) if lookup else Gradient(d, h)
        return found, self.priors(state.params)

    def likelihood(
        self, state: State, key: jax.Array, data: tuple, probes: Mapping
    ) -> tuple[Any, dict[str, Any]]:
        """The log likelihood per row of a minibatch with probes, and the inputs of the layers."""
        rows = self.rows(key, self.engine.batch_size)
        terms, inputs = self.objective.terms(
            state.params, state.index, rows, named_key(key, "draws"), data, probes
        )
        return terms.likelihood / self.total, inputs

    def output_shapes(
        self, state: State, key: jax.Array, data: tuple
    ) -> dict[str, tuple[int, int]]:
        """(rows, width) of the outputs of each layer, a convolution's places being rows."""
        inputs = jax.eval_shape(lambda state: self.likelihood(state, key, data, {})[1], state)
        widths = {
            name: self.layout.flat_shape(name)[name in self.sites.network.lookups]
            for name in self.layout.shapes
        }
        return {name: (h.shape[1], widths[name]) for name, h in inputs.items()}

    def places(self, state: State, data: tuple) -> dict[str, int]:
        """Rows of a minibatch times the places of a row at which each layer multiplies; 0 for lookups."""
        shapes = self.output_shapes(state, self.key, data)
        return {
            name: 0 if name in self.sites.network.lookups else rows
            for name, (rows, _) in shapes.items()
        }

    def rate(self, i: int) -> float:
        """The share of the active tiles to exchange after i steps: a cosine from `rate` to 0 at `stop`."""
        end = self.engine.stop * self.engine.steps
        return 0.0 if i >= end else self.engine.rate / 2 * (1 + math.cos(math.pi * i / end))


def at_random(gradient: Gradient, key: jax.Array) -> Gradient:
    """Factors of noise in the place of a gradient: what grows is then chosen at random."""
    outputs = jax.random.normal(named_key(key, "outputs"), gradient.outputs.shape)
    return Gradient(outputs, jax.random.normal(named_key(key, "inputs"), gradient.inputs.shape))
