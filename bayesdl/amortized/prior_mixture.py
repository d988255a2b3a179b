"""Mixtures of priors: data come from one of several models, and which is not known.

k ~ Categorical(weights),    y ~ model k
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from bayesdl.data.validation import ModelError
from bayesdl.model.examples import CommandLine
from bayesdl.model.likelihoods import AbstractLikelihood
from bayesdl.model.table import AbstractTableModel, TableProgram


@dataclasses.dataclass(frozen=True)
class PriorMixture(AbstractTableModel):
    """One of several table models, which one being unknown: for `bdl.PFN.train`.

    Its site "component" is discrete, which rules out engines that need gradients.

    Args:
        models: of one kind of target, all standardising or none.
        weights: prior probabilities, one per model; equal by default.

    Example:
        >>> import bayesdl as bdl
        >>> PriorMixture((bdl.GP(), bdl.BNN()), weights=(0.7, 0.3)).weights
        (0.7, 0.3)
    """

    models: tuple[Any, ...]
    weights: tuple[float, ...] = ()

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        """Return nothing: an amortized network answers for it, which the command line lacks."""
        return ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))
        if not self.models or not all(
            isinstance(model, AbstractTableModel) for model in self.models
        ):
            raise ModelError(
                f"PriorMixture(models={self.models}): expected table models, e.g. (bdl.GP(), bdl.BNN())."
            )
        weights = tuple(map(float, self.weights)) or (1 / len(self.models),) * len(self.models)
        if len(weights) != len(self.models) or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
            raise ModelError(
                f"PriorMixture(weights={self.weights}): expected {len(self.models)} positive numbers of sum 1."
            )
        object.__setattr__(self, "weights", weights)
        for what in ("standardize", "likelihood kind"):
            found = {
                model.standardize if what == "standardize" else model.likelihood.kind
                for model in self.models
            }
            if len(found) > 1:
                raise ModelError(
                    f"The models of a mixture must agree in {what}, got {sorted(map(str, found))}."
                )

    @property
    def likelihood(self) -> AbstractLikelihood:
        """Of the first model; all have its kind."""
        return self.models[0].likelihood

    @property
    def standardize(self) -> bool:
        return self.models[0].standardize

    @property
    def double_precision(self) -> bool:
        return any(model.double_precision for model in self.models)

    no_other_engine: ClassVar[bool] = True

    def simulator(self, num_classes: int) -> tuple[TableProgram, int]:
        classes = max(model.simulator(num_classes)[1] for model in self.models)
        return TableProgram(self, classes or 1), classes

    def for_simulated_data(self) -> PriorMixture:
        models = tuple(model.for_simulated_data() for model in self.models)
        return dataclasses.replace(self, models=models)

    def ignores_zero_columns(self, fewest: int, most: int) -> bool:
        return all(model.ignores_zero_columns(fewest, most) for model in self.models)

    def covers_classes(self, num_trained: int, num_classes: int) -> bool:
        return all(model.covers_classes(num_trained, num_classes) for model in self.models)

    def in_units(self, scale: tuple[float, ...]) -> PriorMixture:
        models = tuple(model.in_units(scale) for model in self.models)
        return dataclasses.replace(self, models=models)

    def program(self, X: Any, y: Any = None, *, num_targets: int = 1) -> None:
        """The NumPyro program; sites of model k are named "k.site"."""
        weights: Any = dist.Categorical(probs=jnp.array(self.weights))
        component = numpyro.sample("component", weights)
        laws = tuple(self.law_of_model(k, X, num_targets) for k in range(len(self.models)))
        law: Any = Chosen(laws, component)
        numpyro.sample("y", law, obs=y)

    def law_of_model(self, k: int, X: Any, num_targets: int) -> Any:
        """The law of y under one model, its other sites being drawn."""
        blank = jnp.zeros(
            X.shape[0], jnp.int32 if self.likelihood.kind == "class" else X.dtype
        )  # so that y is not drawn
        with (
            handlers.scope(prefix=str(k), divider="."),
            handlers.block(hide=["y"]),
            handlers.trace() as trace,
        ):
            self.models[k].program(X, blank, num_targets=num_targets)
        law = trace["y"]["fn"]
        return law if law.event_shape else law.to_event(1)


class Chosen(dist.Distribution):
    """One of several laws of all rows.

    Args:
        laws: with one event shape.
        component: which one.
    """

    arg_constraints: ClassVar = {}
    pytree_data_fields = ("laws", "component")

    def __init__(self, laws: tuple, component: Any, *, validate_args: bool | None = None) -> None:
        self.laws, self.component = laws, component
        super().__init__((), laws[0].event_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.laws[0].support

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return jnp.stack([law.sample(key, sample_shape) for law in self.laws])[self.component]

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        return jnp.stack([law.log_prob(value) for law in self.laws])[self.component]
