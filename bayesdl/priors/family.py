"""Priors that can be matched to functions: their numbers as free parameters, and back as floats."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import ModelError
from bayesdl.model.language import Tensor
from bayesdl.priors.base import (
    AbstractPrior,
    WeightArray,
    count_layers,
    replace_fields,
)
from inference.core.typing import Params, SiteArrays
from inference.renaming import warn_renamed
from inference.settings import check_positive

Family = TypeVar("Family", bound="AbstractFamily")


class AbstractFamily(AbstractPrior):
    """A prior whose numbers can be tuned. Final classes are frozen dataclasses."""

    tunable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in self.positives:
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        check_positive(self, *self.positives)

    def check(self, num_layers: int, activation: str | None = None) -> None:
        for name in self.positives:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != num_layers:
                raise ModelError(
                    f"{type(self).__name__}({name}={value}) has {len(value)} numbers and the "
                    f"network has {num_layers} layers; give one per layer, the output layer "
                    "included, or one for all."
                )

    def initialised(self: Family, arrays: tuple[WeightArray, ...]) -> Family:
        """Return a copy with one value per layer, the start of an optimisation."""
        num_layers = count_layers(arrays)
        self.check(num_layers)
        values = {name: jnp.asarray(getattr(self, name)) for name in self.positives}
        return self.with_params(
            {name: jnp.log(jnp.broadcast_to(value, num_layers)) for name, value in values.items()}
        )

    def split_parameters(self, arrays: tuple[WeightArray, ...]) -> tuple[AbstractFamily, Params]:
        """Split off the numbers, one value per layer, from a member that stands for all."""
        return type(self)(), self.initialised(arrays).parameters()

    def parameters(self) -> SiteArrays:
        """Return the numbers as unconstrained arrays, by field."""
        return {name: jnp.log(jnp.asarray(getattr(self, name), float)) for name in self.positives}

    def with_params(self: Family, parameters: SiteArrays) -> Family:
        """Return the same prior with other parameters, which may be traced by JAX."""
        return replace_fields(
            self, {name: tuple(jnp.exp(parameters[name])) for name in self.positives}
        )

    def as_floats(self: Family) -> Family:
        """Return the same prior with Python floats, to print and to store."""
        return replace_fields(
            self,
            {name: tuple(map(float, np.asarray(getattr(self, name)))) for name in self.positives},
        )

    def started(self: Family, arrays: tuple[WeightArray, ...]) -> Family:
        """Call `initialised` under its former name."""
        warn_renamed("prior.started", "prior.initialised")
        return self.initialised(arrays)

    def at(self: Family, parameters: SiteArrays) -> Family:
        """Call `with_params` under its former name."""
        warn_renamed("prior.at", "prior.with_params")
        return self.with_params(parameters)

    def numbers(self: Family) -> Family:
        """Call `as_floats` under its former name."""
        warn_renamed("prior.numbers", "prior.as_floats")
        return self.as_floats()

    def __str__(self) -> str:
        return _format_table(self)


def value_of_layer(value: Tensor | float | tuple, layer: int) -> Tensor | float:
    """Return the number of one layer, given one number for all layers or one per layer."""
    return value[layer] if isinstance(value, tuple) else value


def _format_table(prior: AbstractFamily) -> str:
    """Format the numbers of a prior as a table with a line for each layer."""
    values = {name: getattr(prior, name) for name in prior.positives}
    length = max((len(v) for v in values.values() if isinstance(v, tuple)), default=1)
    widths = {name: max(8, len(name)) for name in values}
    lines = ["layer " + " ".join(f"{name:>{width}}" for name, width in widths.items())]
    for layer in range(length):
        label = layer if length > 1 or any(isinstance(v, tuple) for v in values.values()) else "all"
        cells = " ".join(
            f"{value_of_layer(values[name], layer):>{width}.4g}" for name, width in widths.items()
        )
        lines.append(f"{label:>5} {cells}")
    return "\n".join(lines)
