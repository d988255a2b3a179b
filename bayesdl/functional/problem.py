"""A matching problem: a network, its inputs, and the target that its functions should look like."""

from __future__ import annotations

import dataclasses

import numpy as np

from bayesdl.bnn.networks import AbstractNetwork, check_num_outputs
from bayesdl.bnn.spec import BNN
from bayesdl.data.columns import Columns
from bayesdl.data.validation import ModelError
from bayesdl.functional.targets import AbstractTarget, as_target
from bayesdl.priors.base import WeightArray, count_layers
from bayesdl.typing import TableLike

# share of the rows that are kept for the report, where there are at least so many
HELD_OUT, FEWEST = 0.2, 50


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingProblem:
    """A network, its inputs and a target.

    Attributes:
        columns: the columns of the inputs, with their units.
        rows: the rows of inputs as the network sees them.
        net: the network.
        arrays: its arrays of weights.
        target: the target of the functions.
        num_outputs: the number of outputs of network and target.
    """

    columns: Columns
    rows: np.ndarray
    net: AbstractNetwork
    arrays: tuple[WeightArray, ...]
    target: AbstractTarget
    num_outputs: int

    @classmethod
    def from_model(
        cls, model: object, to: object, inputs: TableLike, num_targets: int
    ) -> MatchingProblem:
        """Check that network, target and inputs go together.

        Args:
            model: the model whose network is matched.
            to: the target, as users give it.
            inputs: the training inputs.
            num_targets: the number of target columns, or of classes.

        Raises:
            ModelError: where they do not go together.
        """
        if not isinstance(model, BNN):
            raise ModelError(
                f"Expected a bdl.BNN, whose weights have a prior, got {type(model).__name__}."
            )
        columns = Columns.learn(inputs, model.standardize)
        rows = columns.read(inputs)
        num_outputs = model.likelihood.num_outputs(num_targets)
        if num_outputs != num_targets:
            raise ModelError(
                f"{model.likelihood} has {num_outputs} outputs for {num_targets} targets, of which "
                "some are not functions to be matched: match the network with bdl.Normal(), and "
                "give the prior to this model."
            )
        arrays = model.net.weight_arrays(len(columns.scale), num_outputs)
        check_num_outputs(model.net, arrays, rows, num_outputs, f"num_targets={num_targets}")
        width = int(np.prod(rows.shape[1:]))
        target = as_target(to, width, num_outputs, model.standardize)
        model.prior.check(count_layers(arrays), model.net.activation)
        return cls(columns, rows, model.net, arrays, target, num_outputs)

    def split_rows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Split the rows to match on from those to report on.

        Both are all rows where there are few, or one column.
        """
        if len(self.rows) < FEWEST or self.rows.shape[1:] == (1,):
            return self.rows, self.rows
        order = rng.permutation(len(self.rows))
        held = int(HELD_OUT * len(self.rows))
        return self.rows[order[held:]], self.rows[order[:held]]
