"""Priors with numbers per layer that can be matched to functions: as free parameters, and back as numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import ModelError
from bayesdl.priors.base import (
    AbstractPrior,
    WeightArray,
    check_positive,
    count_layers,
    replace_fields,
)


class AbstractFamily(AbstractPrior):
    """A prior whose numbers can be tuned. Final classes are frozen dataclasses."""

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
                    f"{type(self).__name__}({name}={value}) has {len(value)} numbers and the network has {num_layers} layers; "
                    "give one per layer, the output layer included, or one for all."
                )

    def initialised(self, arrays: tuple[WeightArray, ...]) -> Any:
        """With a number of its own for each layer."""
        num_layers = count_layers(arrays)
        self.check(num_layers)
        return self.with_params(
            {
                n: jnp.log(jnp.broadcast_to(jnp.asarray(getattr(self, n)), num_layers))
                for n in self.positives
            }
        )

    def parameters(self) -> dict[str, Any]:
        """Its numbers as unconstrained arrays."""
        return {name: jnp.log(jnp.asarray(getattr(self, name), float)) for name in self.positives}

    def with_params(self, parameters: dict[str, Any]) -> Any:
        """The same prior with other parameters, which may be traced."""
        return replace_fields(
            self, {name: tuple(jnp.exp(parameters[name])) for name in self.positives}
        )

    def as_floats(self) -> Any:
        """The same prior with plain numbers, to print and to store."""
        return replace_fields(
            self,
            {name: tuple(map(float, np.asarray(getattr(self, name)))) for name in self.positives},
        )

    def __str__(self) -> str:
        return format_table(self)


def value_of_layer(value: Any, layer: int) -> Any:
    """The number of a layer."""
    return value[layer] if isinstance(value, tuple) else value


def format_table(prior: AbstractFamily) -> str:
    """The numbers of each layer, a line each."""
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
