"""Weights of rows: row i counts w_i times in the likelihood, p(y | z) = prod_i p(y_i | z)^w_i."""

from __future__ import annotations

from typing import Any

import jax
from numpyro.primitives import Messenger


class RowWeights(Messenger):
    """A NumPyro handler that scales the log density of each row of the observed site.

    Args:
        program: the program whose rows are weighted.
        weights: the weights, shape (rows,).
        site: the name of the observed site.
    """

    def __init__(self, program: Any, weights: jax.Array, site: str = "y") -> None:
        super().__init__(program)
        self.weights, self.site = weights, site
        self.index: jax.Array | None = None

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Remember which rows a minibatch holds, as the plate drew them."""
        if msg["type"] == "plate":
            self.index = msg["value"]

    def process_message(self, msg: dict[str, Any]) -> None:
        """Scale the observed site."""
        if msg["type"] != "sample" or msg["name"] != self.site or not msg["is_observed"]:
            return
        weights = self.weights if self.index is None else self.weights[self.index]
        msg["scale"] = weights if msg["scale"] is None else weights * msg["scale"]
