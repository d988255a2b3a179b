"""The steps of SSVI as pure functions: optimiser steps, and exchanges of tiles between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.structure import LayeredNetwork
from inference.core.typing import AnyArray, Key, Optimizer, PyTree, SiteArrays
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.budget import GLOBAL, allocate_budget
from inference.sparse.patterns.layout import Layout, input_shares
from inference.sparse.patterns.support import inclusion_probability
from inference.sparse.products.kernel_choice import choose_kernels
from inference.sparse.training.exchange import (
    ExchangePlan,
    max_exchanged,
    move_optimizer_state,
    move_values,
    plan_exchange,
)
from inference.sparse.training.growth import (
    GradientFactors,
    best_candidates,
    best_candidates_of_layers,
)
from inference.sparse.training.scores import burst_evidence, score_tiles
from inference.sparse.training.settings import AbstractSparseEngine
from inference.sparse.variational.objective import Objective
from inference.sparse.variational.priors import Prior, active_prior, stored_prior_sds
from inference.sparse.variational.sites import ProblemSites, scale_of, softplus_inverse


class State(NamedTuple):
    """The state from which a run can go on.

    Attributes:
        params: "weights" of each store (mean, raw scale), "points", and "normals" (loc, raw scale).
        optimizer: the state of the optimiser.
        index: the active tiles of each store.
    """

    params: dict[str, Any]
    optimizer: PyTree
    index: SiteArrays


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """The functions of a run.

    All are pure, and random numbers depend on the number of the step alone.

    Attributes:
        engine: the settings.
        objective: the objective, which knows the layout of the weights.
        optimizer: the optax optimiser.
        total: the number of rows of the data.
        key: the random key of the run.
    """

    engine: AbstractSparseEngine
    objective: Objective
    optimizer: Optimizer
    total: int
    key: Key

    @property
    def layout(self) -> Layout:
        """The stores of the weights."""
        return self.objective.layout

    @property
    def sites(self) -> ProblemSites:
        """The latent sites of the problem."""
        return self.objective.sites

    def initial_state(self, key: Key) -> State:
        """Return the state at the start.

        Tiles are random, means are drawn from the prior of the active weights, biases are zero.
        """
        layout = self.layout
        index = {
            name: pattern.draw_index(named_key(key, f"index {name}"))
            for name, pattern in layout.patterns.items()
        }
        points = {name: jnp.zeros(self.sites.problem.latents[name]) for name in self.sites.points}
        loc = self.sites.initial_normals(named_key(key, "sites"))
        raw = softplus_inverse(self.engine.initial_scale)
        normals = {
            name: {"loc": value, "raw": jnp.full_like(value, raw)} for name, value in loc.items()
        }
        priors = self.priors_at_centre({"normals": normals, "points": points})
        weights = {}
        for name, pattern in layout.patterns.items():
            draw = jax.random.normal(named_key(key, f"means {name}"), pattern.values_shape)
            mean = draw * stored_prior_sds(layout, name, index[name], priors)
            weights[name] = {"mean": mean, "raw": jnp.full_like(mean, raw)}
        params = {"weights": weights, "points": points, "normals": normals}
        return State(params, self.optimizer.init(params), index)

    def priors_at_centre(self, params: Mapping[str, Any]) -> dict[str, Prior]:
        """Return the priors of the layers' weights at the centre of q for the other sites."""
        normals = {
            name: self.sites.transform(name)(leaf["loc"])
            for name, leaf in params["normals"].items()
        }
        return self.sites.priors(self.layout, normals | dict(params["points"]))

    def draw_rows(self, key: Key, size: int) -> jax.Array | None:
        """Draw the numbers of the rows of a minibatch; None stands for all rows."""
        if size >= self.total:
            return None
        return jax.random.randint(named_key(key, "rows"), (size,), 0, self.total)

    def step(self, i: AnyArray | int, state: State, data: tuple) -> tuple[State, jax.Array]:
        """Take one step of the optimiser.

        Returns:
            The state after it, and the terms of the ELBO before it: likelihood and divergence.
        """
        import optax

        key = jax.random.fold_in(named_key(self.key, "steps"), i)
        rows = self.draw_rows(key, self.engine.batch_size)

        def loss(params: dict[str, Any]) -> tuple[AnyArray, jax.Array]:
            draws = named_key(key, "draws")
            terms, _ = self.objective.terms(params, state.index, rows, draws, data)
            return -self.objective.value(terms) / self.total, jnp.stack(terms)

        gradient, terms = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        return State(params, optimizer, state.index), terms

    def block(
        self, state: State, first: AnyArray | int, count: AnyArray | int, data: tuple
    ) -> tuple[State, jax.Array]:
        """Take `count` steps, from number `first` on.

        Returns:
            The state after them, and the terms at each step, in an array for the longest block,
            shape (every, 2).
        """
        values = jnp.zeros((self.engine.every, 2))

        def body(j: jax.Array, carry: tuple) -> tuple:
            state, values = carry
            state, value = self.step(first + j, state, data)
            return state, values.at[j].set(value)

        return jax.lax.fori_loop(0, count, body, (state, values))

    def exchange(
        self, state: State, i: AnyArray | int, rate: AnyArray | float, data: tuple
    ) -> tuple[State, AnyArray]:
        """Return the state after an exchange, and the share of the active tiles exchanged."""
        key = jax.random.fold_in(named_key(self.key, "exchanges"), i)
        gradients, priors = self.gradient_factors(state, key, data)
        plans = {}
        for store, pattern in self.layout.patterns.items():
            most = max_exchanged(pattern, self.engine.rate)
            if most:
                own_key = named_key(key, store)
                plans[store] = self.plan(store, most, state, gradients, priors, rate, own_key)
        weights = dict(state.params["weights"])
        raw = softplus_inverse(self.engine.initial_scale)
        for name, plan in plans.items():
            weights[name] = {
                "mean": move_values(plan, weights[name]["mean"], 0.0),
                "raw": move_values(plan, weights[name]["raw"], raw),
            }
        params = state.params | {"weights": weights}
        optimizer = move_optimizer_state(self.optimizer, state.optimizer, params, plans)
        index = state.index | {name: plan.index for name, plan in plans.items()}
        exchanged = sum((plan.fresh.sum() for plan in plans.values()), jnp.zeros((), jnp.int32))
        places = sum(plan.fresh.size for plan in plans.values())
        return State(params, optimizer, index), exchanged / max(places, 1)

    def plan(
        self,
        store: str,
        most: int,
        state: State,
        gradients: Mapping[str, GradientFactors],
        priors: Mapping[str, Prior],
        rate: AnyArray | float,
        key: Key,
    ) -> ExchangePlan:
        """Plan the exchange in one store.

        Args:
            store: the name of the store.
            most: the most tiles of a group that may be exchanged.
            state: the state before the exchange.
            gradients: the gradient by the weights of each layer.
            priors: the prior of the weights of each layer.
            rate: the share of the active tiles to replace.
            key: the random key of this store.
        """
        pattern, index = self.layout.patterns[store], state.index[store]
        leaf, removal = state.params["weights"][store], self.engine.removal
        mean, sd = leaf["mean"], scale_of(leaf["raw"])
        scores = score_tiles(
            self.layout, store, index, mean, sd, priors, removal, named_key(key, "removal")
        )
        gains = scores < 0 if removal == "evidence" else jnp.ones(pattern.index_shape, bool)
        if self.engine.growth == "random":
            gradients = {
                name: _random_factors(gradients[name], named_key(key, f"growth {name}"))
                for name, _ in self.layout.members(store)
            }
        if store == GLOBAL:
            candidates = self.global_candidates(index, gradients, priors, most)
        else:
            gradient = gradients[store]
            of_bursts = isinstance(priors[store].distribution, Bursts)
            if of_bursts and self.engine.growth == "gradient":
                evidence = burst_evidence(self.layout, store, index, mean, sd, priors)
                weigh = inclusion_probability(evidence)
                gradient = gradient._replace(inclusion_probability=weigh)
            candidates = best_candidates(pattern, index, gradient, most)
        rounding = named_key(key, "rounding")
        return plan_exchange(pattern, index, scores, gains, candidates, rate, rounding)

    def global_candidates(
        self,
        index: AnyArray,
        gradients: Mapping[str, GradientFactors],
        priors: Mapping[str, Prior],
        most: int,
    ) -> jax.Array:
        """Return the best candidates of the layers that share a global budget.

        Gradients are compared in units of the prior's standard deviation.
        """
        comparable = []
        for name, start in self.layout.members(GLOBAL):
            weight = active_prior(priors[name], self.layout, name).sd
            comparable.append((start, gradients[name]._replace(weight=weight)))
        return best_candidates_of_layers(index, comparable, most)

    def gradient_factors(
        self, state: State, key: Key, data: tuple
    ) -> tuple[dict[str, GradientFactors], dict[str, Prior]]:
        """Return the factors of the gradient by each layer's weights, and the layers' priors.

        Minibatches come one after the other, and of each only the inputs and outputs of the layers
        are kept.
        """
        number = self.engine.growth_batches
        keys = jax.random.split(key, number)
        shapes = self.output_shapes(state, key, data)
        probes = {name: jnp.zeros(shape) for name, shape in shapes.items()}

        def differentiate(key: Key) -> tuple[SiteArrays, SiteArrays]:
            def likelihood(probes: SiteArrays) -> tuple[AnyArray, SiteArrays]:
                return self.likelihood(state, key, data, probes)

            return jax.grad(likelihood, has_aux=True)(probes)

        outputs, inputs = jax.lax.map(differentiate, keys)
        found = {}
        for name in probes:
            d = jnp.moveaxis(outputs[name], 2, 0).reshape(outputs[name].shape[2], -1) / number
            h = jnp.moveaxis(inputs[name], 1, 0).reshape(inputs[name].shape[1], -1)
            # the inputs of a lookup say which row of W was taken
            lookup = name in self.sites.network.lookups
            found[name] = GradientFactors(h, d) if lookup else GradientFactors(d, h)
        return found, self.priors_at_centre(state.params)

    def likelihood(
        self, state: State, key: Key, data: tuple, probes: Mapping[str, AnyArray]
    ) -> tuple[AnyArray, SiteArrays]:
        """Return the log likelihood per row of a minibatch, and the inputs of the layers."""
        rows, draws = self.draw_rows(key, self.engine.batch_size), named_key(key, "draws")
        terms, inputs = self.objective.terms(state.params, state.index, rows, draws, data, probes)
        return terms.likelihood / self.total, inputs

    def output_shapes(self, state: State, key: Key, data: tuple) -> dict[str, tuple[int, int]]:
        """Return (rows, width) of the outputs of each layer; a convolution's places are rows."""
        inputs = jax.eval_shape(lambda state: self.likelihood(state, key, data, {})[1], state)
        widths = {
            name: self.layout.flat_shape(name)[name in self.sites.network.lookups]
            for name in self.layout.shapes
        }
        return {name: (h.shape[1], widths[name]) for name, h in inputs.items()}

    def output_rows(self, state: State, data: tuple) -> dict[str, int]:
        """Return the rows of each layer's outputs in a step; 0 for lookups.

        This is the number of rows of a minibatch times the places of a row at which the layer
        multiplies.
        """
        shapes = self.output_shapes(state, self.key, data)
        return {
            name: 0 if name in self.sites.network.lookups else rows
            for name, (rows, _) in shapes.items()
        }


def _random_factors(gradient: GradientFactors, key: Key) -> GradientFactors:
    """Return factors of noise in the place of a gradient, so that random tiles grow."""
    outputs = jax.random.normal(named_key(key, "outputs"), gradient.outputs.shape)
    inputs = jax.random.normal(named_key(key, "inputs"), gradient.inputs.shape)
    return GradientFactors(outputs, inputs)


def _build_layout(
    engine: AbstractSparseEngine, problem: Problem, rows: int, kernels: Mapping[str, str] | None
) -> Layout:
    """Return the stores of the network.

    Args:
        engine: the settings.
        problem: the problem, which offers a `LayeredNetwork`.
        rows: the number of rows of a step.
        kernels: the kernel of each store where a checkpoint knows them.

    Raises:
        BudgetError: where the budget leaves a layer empty, or a kernel does not fit.
    """
    shapes = problem.structure_as(LayeredNetwork).matrices
    keeps_last = len(shapes) > 1 and engine.keeps_output_dense(shapes)
    last = tuple(shapes)[-1:] if keeps_last else ()
    patterns = allocate_budget(shapes, engine.density, engine.allocation, engine.structure, last)
    if kernels is None:
        kernels = choose_kernels(patterns, engine.kernel, rows)
    return Layout(shapes, patterns, kernels, input_shares(shapes, patterns))


def build_training(
    engine: AbstractSparseEngine,
    problem: Problem,
    key: Key,
    kernels: Mapping[str, str] | None = None,
) -> Training:
    """Return the functions of a run.

    Args:
        engine: the settings.
        problem: the problem with its data.
        key: the random key of the run.
        kernels: the kernel of each store where a checkpoint knows them.
    """
    total = problem.data_plate[1]
    if engine.batch_size < total:
        # this refuses problems without minibatches
        problem.minibatch(engine.batch_size)
    layout = _build_layout(engine, problem, min(engine.batch_size, total), kernels)
    sites = ProblemSites(problem, engine.biases)
    objective = Objective(sites, layout, engine.beta, engine.estimator)
    return Training(engine, objective, engine.make_optimizer(), total, key)
