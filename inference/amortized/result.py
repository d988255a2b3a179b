"""The result of a prior-data fitted network: its answer to one data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from inference.core.result import AbstractPredictive, AbstractPredictor


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AmortizedPredictor(AbstractPredictor):
    """The answer of a trained network to one data set.

    Attributes:
        concerns: a function of new data that says which of them lie outside those of training.
        latents: the posteriors of the latent sites that the network learned, by name.
    """

    concerns: Callable[..., list[str]]
    latents: dict[str, AbstractPredictive]

    def correlates_rows(self, by_model: bool) -> bool:
        # rows share what the network does not know of the function, whatever the model
        return True

    def outside(self, *args: object, **kwargs: object) -> list[str]:
        return self.concerns(*args, **kwargs)

    def site_predictives(self) -> dict[str, AbstractPredictive]:
        return self.latents

    def replication_concern(self) -> str | None:
        return (
            "was fitted by a network, which samples few rows jointly: bdl.amortized.ood(post) "
            "compares these data with those of the prior; for a check given the data fit with "
            "bdl.NUTS()"
        )
