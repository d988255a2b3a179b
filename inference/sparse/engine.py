"""Sparse subspace variational inference: a normal posterior over a budget of weights.

It is a mean-field posterior over a set S of active weights, and all other weights are zero:

    max over S, phi of  E_q[log p(y | w)] - beta KL(q_phi(w_S) || p(w_S)),
    |S| = density * (number of weights)

Steps of an optimiser alternate with exchanges of the least useful weights of S for the most
promising others. Only S is ever stored: indices, means, scales and the optimiser's state have its
size. Reference: Li, Miao, Qiu and Zhang (2024), arXiv:2402.11025, whose code masks dense arrays;
the growing of weights is that of Evci et al. (2020), arXiv:1911.11134.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import Checkpoint
from inference.core.findings import Finding
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, with_prefix
from inference.core.structure import LayeredNetwork
from inference.core.typing import AnyArray, Info, Key, StoredArrays
from inference.sparse import costs
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.pattern import Pattern
from inference.sparse.posterior import SparseApproximation, build_approximation, params_from_state
from inference.sparse.training import runs
from inference.sparse.training.settings import AbstractSparseEngine
from inference.sparse.training.training import build_training
from inference.sparse.validation import padding_notes, reason_unsupported, warn_about_lost_weights
from inference.sparse.variational.sites import ProblemSites
from inference.vi.findings import objective_findings

NOT_WEIGHED = Finding(
    "How close the approximation is to the posterior was not looked at: 1000 passes through the "
    "data would take too long. Judge it by post.score on held-out data"
)


@dataclasses.dataclass(frozen=True)
class SSVI(AbstractSparseEngine):
    """Sparse subspace variational inference for Bayesian neural networks.

    The method is that of Li et al. (2024), arXiv:2402.11025. Priors may be any with independent
    weights (`Gaussian`, `LayerGaussian`, `Laplace`, `StudentT`), with one scale for each layer
    (`Hierarchical`, `LayerHierarchical`, `ScaleFlow`), or `Bursts`.

    Attributes:
        can_checkpoint: True: `infer` takes `checkpoint=`, so an interrupted run can go on.
        density: the number of active weights divided by the number of all weights of the network,
            biases not counted; 1 is dense mean-field VI.
        allocation: the allocation of the budget over layers: "uniform", "erk" (more for small
            layers) or "global" (decided while training).
        structure: the structure of the active weights: "unstructured"; "fan_in", the same number of
            inputs for each unit of a layer; "block:B", tiles of B x B weights, the same number in
            each row of tiles; or "neurons", whole units.
        dense_output: whether the output layer keeps all its weights, which count; None keeps them
            where that takes at most half of the budget, and with "neurons".
        removal: the weights that are removed first: those of the lowest "snr" (|mean| / sd),
            "evidence" (only where the evidence gains), "magnitude", "mean_abs", "random" or
            "support" (of `bdl.priors.Bursts`), or of a function of (mean, sd). All but "evidence"
            exchange weights whether or not that is of use, as the method says; where weights are
            few a needed one may be lost, which warns.
        growth: the weights that are added: those with the largest derivatives of the ELBO
            ("gradient"; with bursts times the probability to be in the support), or "random" ones.
        every: the number of steps between two exchanges; for few steps take a smaller number.
        rate: the share of the active weights in the first exchange; it decays along a cosine.
        stop: the share of the steps after which nothing is exchanged any more.
        growth_batches: the number of minibatches over which the gradient for growth is averaged.
        estimator: the estimator for the noise of the weights: "local", "flipout" or "weights".
        beta: the factor of the KL divergence; 1 is the ELBO.
        biases: what q is for biases, "point" or "normal"; fits with points can be exported.
        kernel: how products are computed: "auto" measures; or "blocks", "fan_in", "neurons",
            "transient" (a dense matrix for a moment, which saves memory and no time).
        steps: the number of optimiser steps.
        batch_size: the number of rows of a step; all of them where there are fewer.
        optimizer: an optax optimiser of -ELBO / rows, or None for Adam.
        learning_rate: Adam's learning rate at the start; it decays to zero along a cosine. It is
            not used where an optimizer is given.
        initial_scale: the standard deviation of q at the start, and of weights that are added.
        num_samples: the number of draws of the network that predictions use.

    Example:
        >>> SSVI(density=0.05, structure="block:16").allocation
        'uniform'
    """

    can_checkpoint: ClassVar[bool] = True

    @classmethod
    def example(cls) -> SSVI:
        return cls(steps=200, density=0.5)

    def supports(self, problem: Problem) -> str | None:
        return reason_unsupported(problem, self.removal, self.allocation)

    def infer(
        self,
        problem: Problem,
        *,
        key: Key,
        progress: AbstractProgress = Silent(),
        checkpoint: Checkpoint | None = None,
    ) -> SparseApproximation:
        started = time.perf_counter()
        training = build_training(self, problem, key, runs.checkpoint_kernels(checkpoint))
        data = jax.tree.map(jnp.asarray, (problem.args, dict(problem.kwargs)))
        notes = padding_notes(training.layout.patterns)
        for note in notes:
            progress.note(f"SSVI: {note}")
        run = runs.TrainingRun(training, checkpoint)
        state, terms, log = run.run(data, progress)
        losses = -np.asarray(training.objective.value(terms.T))
        self.check_objective(losses)
        warn_about_lost_weights(losses, self.every, log)
        last = terms[-self.every :].astype(float)
        params, output_rows = params_from_state(state), training.output_rows(state, data)
        info: Info = {
            "objective": self.objective_name,
            "beta": self.beta,
            "exchanges": log,
            "notes": notes,
            "elbo": runs.mean_elbo(last),
            "divergence": float(last[:, 1].mean()),
            "rows": training.total,
        }
        info |= self.storage_facts(training.layout, params, output_rows)
        sizes = {"optimizer": run.optimizer_bytes, "temporary": run.temporary}
        info |= {"bytes_in_training": sizes, "seconds": time.perf_counter() - started}
        return self.approximation(problem, training.layout, params, losses, info)

    def storage_facts(
        self, layout: Layout, params: Mapping[str, AnyArray], output_rows: Mapping[str, int]
    ) -> Info:
        """Return how weights are stored, and what a step with them costs, as plain data.

        Args:
            layout: the stores of the network.
            params: the fitted parameters by name.
            output_rows: the rows of each layer's outputs in a step.
        """
        index = {name: params[f"{name}/index"] for name in layout.patterns}
        patterns = {name: dataclasses.asdict(p) for name, p in layout.patterns.items()}
        return {
            "patterns": patterns,
            "kernels": dict(layout.kernels),
            "shares": dict(layout.shares),
            "active": costs.count_active(layout, index),
            "bytes": runs.count_bytes(dict(params)),
            "places": dict(output_rows),
            "operations": costs.count_operations(
                layout, output_rows, self.every, self.growth_batches, self.rate
            ),
        }

    def check_objective(self, losses: np.ndarray) -> None:
        """Refuse an objective that is not finite at the end.

        Raises:
            ProblemError: with the cure.
        """
        last = -losses[-max(1, len(losses) // 20) :].mean()
        if not np.isfinite(last):
            raise ProblemError(
                f"SSVI diverged: the ELBO is {last} at the end. Lower learning_rate (now "
                f"{self.learning_rate}) or initial_scale (now {self.initial_scale})."
            )

    def restore(self, problem: Problem, arrays: StoredArrays, info: Info) -> SparseApproximation:
        params = with_prefix(arrays, "params/")
        shapes = problem.structure_as(LayeredNetwork).matrices
        patterns = {name: _read_pattern(data) for name, data in info["patterns"].items()}
        for name, pattern in patterns.items():
            pattern.check_index(params[f"{name}/index"], name)
            found = params[f"{name}/mean"].shape
            if found != pattern.values_shape:
                raise ProblemError(
                    f"The means of '{name}' have shape {found}, not {pattern.values_shape}."
                )
        layout = Layout(shapes, patterns, info["kernels"], info["shares"])
        return self.approximation(problem, layout, params, arrays["losses"], info)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        if result.judged_by == "importance weights":
            return {}
        return {name: float(result.info[name]) for name in ("elbo", "divergence")}

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        if result.judged_by == "importance weights":
            return objective_findings(result.info, facts)
        return (NOT_WEIGHED,)

    def approximation(
        self,
        problem: Problem,
        layout: Layout,
        params: Mapping[str, AnyArray],
        losses: np.ndarray,
        info: Info,
    ) -> SparseApproximation:
        """Return a result of this engine.

        Args:
            problem: the problem that was fitted.
            layout: the stores of the network.
            params: the fitted parameters by name.
            losses: the objective at each step.
            info: facts about the run.
        """
        sites = ProblemSites(problem, self.biases)
        return build_approximation(sites, layout, dict(params), losses, info, self.num_samples)


def _read_pattern(data: Mapping) -> Pattern:
    """Return the pattern that a file holds as plain data."""
    return Pattern(**{**data, "shape": tuple(data["shape"]), "tile": tuple(data["tile"])})
