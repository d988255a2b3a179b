"""Sparse subspace variational inference: a mean-field normal posterior over a budget of weights, all others being zero.

    max over S, phi of  E_q[log p(y | w)] - beta KL(q_phi(w_S) || p(w_S)),    |S| = density * (number of weights)

Steps of an optimiser alternate with exchanges of the least useful weights of S for the most promising others. Only S is ever
stored: indices, means, scales and the optimiser's state have its size. Reference: Li, Miao, Qiu and Zhang (2024),
arXiv:2402.11025, whose code masks dense arrays; the growing of weights is that of Evci et al. (2020), arXiv:1911.11134.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import Checkpoint
from inference.core.engine import (
    AbstractEngine,
    check_choice,
    check_positive,
    check_positive_integers,
)
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import Approximation
from inference.core.structure import LayeredNetwork
from inference.sparse import costs
from inference.sparse.patterns.budget import ALLOCATIONS, patterns
from inference.sparse.patterns.layout import Layout, input_shares
from inference.sparse.patterns.pattern import Pattern
from inference.sparse.posterior import approximation, stored
from inference.sparse.products.kernel_choice import chosen_kernels
from inference.sparse.products.kernels import KERNELS
from inference.sparse.products.sparse_product import ESTIMATORS
from inference.sparse.training import runs
from inference.sparse.training.scores import REMOVALS
from inference.sparse.training.training import State, Training
from inference.sparse.validation import padding_notes, reason_against, warn_of_loss
from inference.sparse.variational.objective import Objective
from inference.sparse.variational.sites import Sites


@dataclasses.dataclass(frozen=True)
class SSVI(AbstractEngine):
    """Sparse subspace variational inference for Bayesian neural networks (Li et al. 2024, arXiv:2402.11025).

    Priors may be any with independent weights (`Gaussian`, `LayerGaussian`, `Laplace`, `StudentT`) or with one scale for each
    layer (`Hierarchical`, `LayerHierarchical`, `ScaleFlow`).

    Attributes:
        density: active weights over all weights of the network, biases not counted; 1 is dense mean-field VI.
        allocation: of the budget over layers: "uniform", "erk" (more for small layers) or "global" (decided while training).
        structure: "unstructured"; "fan_in", the same number of inputs for each unit of a layer; "block:B", tiles of B x B
            weights, the same number in each row of tiles; or "neurons", whole units.
        dense_output: whether the output layer keeps all its weights, which count; None keeps them where that takes at most half
            of the budget, and with "neurons".
        removal: what is removed first: "snr" (|mean| / sd), "evidence" (only where the evidence gains), "magnitude",
            "mean_abs", "random", "support" (of `bdl.priors.Bursts`), or a function of (mean, sd) whose lowest values go. All
            but "evidence" exchange weights whether or not that is of use, as the method says; of few weights a needed one
            may be lost, which warns.
        growth: what is added: "gradient" (the largest derivatives of the ELBO, with bursts times the probability to be in the
            support) or "random".
        every: steps between two exchanges; of few steps take a smaller number.
        rate: share of the active weights in the first exchange; it decays along a cosine.
        stop: share of the steps after which nothing is exchanged any more.
        growth_batches: minibatches over which the gradient for growth is averaged.
        estimator: of the noise of the weights: "local", "flipout" or "weights".
        beta: what the KL divergence is multiplied by; 1 is the ELBO.
        biases: "point" or "normal": what q is for biases; fits with points can be exported.
        kernel: how products are computed: "auto" measures; or "blocks", "fan_in", "neurons", "transient" (a dense matrix for a
            moment, which saves memory and no time).
        steps: optimiser steps.
        batch_size: rows of a step; all of them where there are less.
        optimizer: an optax optimiser of -ELBO / rows, or None for Adam.
        learning_rate: Adam's at the start; it decays to zero along a cosine. Not used where an optimizer is given.
        initial_scale: standard deviation of q at the start, and of weights that are added.
        num_samples: draws of the network used by predictions.

    Example:
        >>> SSVI(density=0.05, structure="block:16").allocation
        'uniform'
    """

    can_checkpoint: ClassVar[bool] = True

    density: float = 0.1
    allocation: str = "uniform"
    structure: str = "unstructured"
    dense_output: bool | None = None
    removal: Any = "snr"
    growth: str = "gradient"
    every: int = 100
    rate: float = 0.3
    stop: float = 0.75
    growth_batches: int = 3
    estimator: str = "local"
    beta: float = 1.0
    biases: str = "point"
    kernel: str = "auto"
    steps: int = 10_000
    batch_size: int = 128
    optimizer: Any = None
    learning_rate: float = 0.01
    initial_scale: float = 0.02
    num_samples: int = 100

    def __post_init__(self) -> None:
        for name, allowed in (
            ("allocation", ALLOCATIONS),
            ("growth", ("gradient", "random")),
            ("estimator", ESTIMATORS),
            ("biases", ("point", "normal")),
            ("kernel", ("auto", *(name for name in KERNELS if name != "dense"))),
        ):
            check_choice(self, name, allowed)
        if not callable(self.removal) and self.removal not in REMOVALS:
            words = ", ".join(map(repr, REMOVALS))
            raise ValueError(
                f"SSVI(removal={self.removal!r}): expected one of {words}, or a function of (mean, sd)."
            )
        if self.dense_output not in (True, False, None):
            raise ValueError(
                f"SSVI(dense_output={self.dense_output!r}): expected True, False or None."
            )
        for name in ("density", "rate", "stop", "learning_rate", "initial_scale", "beta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"SSVI({name}={value!r}): expected a number.")
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise ValueError(
                f"SSVI(optimizer={self.optimizer!r}): expected an optax optimiser such as optax.adam(1e-2)."
            )
        check_positive(self, "learning_rate", "initial_scale", "beta")
        check_positive_integers(
            self, "steps", "batch_size", "every", "growth_batches", "num_samples"
        )
        for name, low in (("density", "0 <"), ("rate", "0 <="), ("stop", "0 <=")):
            value = getattr(self, name)
            if not (0 <= value <= 1) or (name == "density" and value == 0):
                raise ValueError(
                    f"SSVI({name}={value!r}): expected a number with {low} {name} <= 1."
                )
        if not re.fullmatch(r"unstructured|fan_in|neurons|block:[1-9]\d*", str(self.structure)):
            raise ValueError(
                f"SSVI(structure={self.structure!r}): expected 'unstructured', 'fan_in', 'neurons' or e.g. 'block:16'."
            )
        if self.allocation == "global" and self.structure != "unstructured":
            raise ValueError(
                f"SSVI(allocation='global', structure={self.structure!r}): a global budget is of single weights."
            )

    @classmethod
    def example(cls) -> SSVI:
        return cls(steps=200, density=0.5)

    def supports(self, problem: Problem) -> str | None:
        return reason_against(problem, self.removal, self.allocation)

    def infer(
        self,
        problem: Problem,
        *,
        key: jax.Array,
        progress: AbstractProgress = Silent(),
        checkpoint: Checkpoint | None = None,
    ) -> Approximation:
        started = time.perf_counter()
        training = self.training(problem, key, runs.stored_kernels(checkpoint))
        data = jax.tree.map(jnp.asarray, (problem.args, dict(problem.kwargs)))
        notes = padding_notes(training.layout.patterns)
        for note in notes:
            progress.note(f"SSVI: {note}")
        run = runs.Run(training, checkpoint)
        state, terms, log = run.go(data, progress)
        losses = -np.asarray(training.objective.value(terms.T))
        self.refuse_divergence(losses)
        warn_of_loss(losses, self.every, log)
        last = terms[-self.every :].astype(float)
        info: dict[str, Any] = {
            "objective": self.objective_name,
            "beta": self.beta,
            "exchanges": log,
            "notes": notes,
        }
        info |= {
            "elbo": runs.elbo_of(last),
            "divergence": float(last[:, 1].mean()),
            "rows": training.total,
        }
        info |= self.costs(training, run, state, data) | {"seconds": time.perf_counter() - started}
        return self.approximation(problem, training.layout, stored(state), losses, info)

    def costs(self, training: Training, run: runs.Run, state: State, data: tuple) -> dict[str, Any]:
        """What the run cost, and how its weights are kept, as plain data."""
        sizes = {"optimizer": run.optimizer_bytes, "temporary": run.temporary}
        return self.kept(training.layout, stored(state), training.places(state, data)) | {
            "bytes_in_training": sizes
        }

    def kept(
        self, layout: Layout, params: Mapping[str, Any], places: Mapping[str, int]
    ) -> dict[str, Any]:
        """How weights are kept, and what a step with them costs."""
        index = {name: params[f"{name}/index"] for name in layout.patterns}
        return {
            "patterns": {
                name: dataclasses.asdict(pattern) for name, pattern in layout.patterns.items()
            },
            "kernels": dict(layout.kernels),
            "shares": dict(layout.shares),
            "active": costs.active(layout, index),
            "bytes": costs.bytes_of(dict(params)),
            "places": dict(places),
            "operations": costs.operations(
                layout, places, self.every, self.growth_batches, self.rate
            ),
        }

    @property
    def objective_name(self) -> str:
        return "elbo" if self.beta == 1 else f"tempered_elbo(beta={self.beta:g})"

    def refuse_divergence(self, losses: np.ndarray) -> None:
        """Refuses an objective that is not finite at the end.

        Raises:
            ProblemError: with the cure.
        """
        last = -losses[-max(1, len(losses) // 20) :].mean()
        if not np.isfinite(last):
            raise ProblemError(
                f"SSVI diverged: the ELBO is {last} at the end. Lower learning_rate (now {self.learning_rate}) or "
                f"initial_scale (now {self.initial_scale})."
            )

    def training(
        self, problem: Problem, key: jax.Array, kernels: Mapping[str, str] | None = None
    ) -> Training:
        """What a run does.

        Args:
            problem: with the data.
            key: of the run.
            kernels: of the stores, where a checkpoint knows them.
        """
        import optax

        total = problem.data_plate[1]
        if self.batch_size < total:
            problem.minibatch(self.batch_size)
        layout = self.layout(problem, min(self.batch_size, total), kernels)
        optimizer = self.optimizer
        if optimizer is None:
            optimizer = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))
        objective = Objective(Sites(problem, self.biases), layout, self.beta, self.estimator)
        return Training(self, objective, optimizer, total, key)

    def layout(self, problem: Problem, rows: int, kernels: Mapping[str, str] | None) -> Layout:
        """The stores of the network.

        Raises:
            BudgetError: where the budget leaves a layer empty, or a kernel does not fit.
        """
        shapes = problem.structure_as(LayeredNetwork).matrices
        last = tuple(shapes)[-1:] if len(shapes) > 1 and self.keeps_output(shapes) else ()
        found = patterns(shapes, self.density, self.allocation, self.structure, last)
        kernels = chosen_kernels(found, self.kernel, rows) if kernels is None else kernels
        return Layout(shapes, found, kernels, input_shares(shapes, found))

    def keeps_output(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether the last of these layers stays dense."""
        if self.dense_output is not None:
            return self.dense_output
        sizes = [math.prod(shape) for shape in shapes.values()]
        return self.structure == "neurons" or sizes[-1] <= self.density * sum(sizes) / 2

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Approximation:
        params = {
            k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")
        }
        shapes = problem.structure_as(LayeredNetwork).matrices
        found = {name: Pattern(**as_pattern(data)) for name, data in info["patterns"].items()}
        for name, pattern in found.items():
            pattern.check(params[f"{name}/index"], name)
            if params[f"{name}/mean"].shape != pattern.values_shape:
                raise ProblemError(
                    f"The means of '{name}' have shape {params[f'{name}/mean'].shape}, not {pattern.values_shape}."
                )
        layout = Layout(shapes, found, info["kernels"], info["shares"])
        return self.approximation(problem, layout, params, arrays["losses"], info)

    def approximation(
        self,
        problem: Problem,
        layout: Layout,
        params: Mapping[str, Any],
        losses: np.ndarray,
        info: dict,
    ) -> Approximation:
        return approximation(
            Sites(problem, self.biases), layout, dict(params), losses, info, self.num_samples
        )


def as_pattern(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "shape": tuple(data["shape"]), "tile": tuple(data["tile"])}
