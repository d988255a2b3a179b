"""Mixtures of priors: data come from one of several models, and it is not known from which.

k ~ Categorical(weights),    y ~ model k
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro import handlers

from bayesdl.data.validation import ModelError
from bayesdl.model.examples import CommandLine
from bayesdl.model.likelihoods import AbstractLikelihood
from bayesdl.model.table import AbstractTableModel, TableProgram
from inference.core.typing import Key


@dataclasses.dataclass(frozen=True)
class PriorMixture(AbstractTableModel):
    """A mixture of table models, for `bdl.PFN.train`: data come from one of them.

    Its site "component" is discrete, which rules out engines that need gradients.

    Args:
        models: the models. They have one kind of target, and all or none of them standardise.
        weights: the prior probabilities, one per model; equal by default.

    Example:
        >>> import bayesdl as bdl
        >>> PriorMixture((bdl.GP(), bdl.BNN()), weights=(0.7, 0.3)).weights
        (0.7, 0.3)
    """

    models: tuple[Any, ...]
    weights: tuple[float, ...] = ()
    no_other_engine: ClassVar[bool] = True

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
                f"PriorMixture(models={self.models}): expected table models, e.g. "
                "(bdl.GP(), bdl.BNN())."
            )
        weights = tuple(map(float, self.weights)) or (1 / len(self.models),) * len(self.models)
        if len(weights) != len(self.models) or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
            raise ModelError(
                f"PriorMixture(weights={self.weights}): expected {len(self.models)} positive "
                "numbers of sum 1."
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
        """The likelihood of the first model; all models have its kind."""
        return self.models[0].likelihood

    @property
    def standardize(self) -> bool:
        return self.models[0].standardize

    @property
    def double_precision(self) -> bool:
        return any(model.double_precision for model in self.models)

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

    def program(self, X: jax.Array, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program; sites of model k are named "k.site"."""
        weights: Any = dist.Categorical(probs=jnp.array(self.weights))
        component = numpyro.sample("component", weights)
        distributions = tuple(
            self.target_distribution(k, X, num_targets) for k in range(len(self.models))
        )
        selected: Any = SelectedDistribution(distributions, component)
        numpyro.sample("y", selected, obs=y)

    def target_distribution(self, k: int, X: jax.Array, num_targets: int) -> dist.Distribution:
        """Return the distribution of y under model k, whose other sites are drawn."""
        # A target is given to the program so that it does not draw one.
        blank = jnp.zeros(X.shape[0], jnp.int32 if self.likelihood.kind == "class" else X.dtype)
        with (
            handlers.scope(prefix=str(k), divider="."),
            handlers.block(hide=["y"]),
            handlers.trace() as trace,
        ):
            self.models[k].program(X, blank, num_targets=num_targets)
        found = trace["y"]["fn"]
        return found if found.event_shape else found.to_event(1)


class SelectedDistribution(dist.Distribution):
    """One of several distributions of all rows, selected by an index that may be traced.

    Args:
        distributions: the distributions, which have one event shape.
        component: the index of the one that is selected.
    """

    arg_constraints: ClassVar = {}
    pytree_data_fields = ("distributions", "component")

    def __init__(
        self,
        distributions: tuple[dist.Distribution, ...],
        component: ArrayLike,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.distributions, self.component = distributions, component
        super().__init__((), distributions[0].event_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The support of the first distribution."""
        return self.distributions[0].support

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw from all distributions, and return the draw of the selected one."""
        drawn = [one.sample(key, sample_shape) for one in self.distributions]
        return jnp.stack(drawn)[self.component]

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> jax.Array:
        """Return the log density of the selected distribution."""
        return jnp.stack([one.log_prob(value) for one in self.distributions])[self.component]
