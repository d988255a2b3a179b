"""A Bayesian last layer on a trained network.

    f(x) = f^(x) + phi(x)' D,    D ~ N(0, scale^2),    phi(x) = (last hidden layer, 1)

where f^ is the network as it was trained. The prior is around its last layer, so that a network
that was trained to the end keeps its mean: with `bdl.Laplace()` the posterior of D is
N(0, (H + 1 / scale^2)^-1), H the Hessian of the loss (Kristiadi, Hein and Hennig 2020,
arXiv:2002.10118; Daxberger et al. 2021, arXiv:2106.14806).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesdl.data.columns import Columns
from bayesdl.data.reading import Reading
from bayesdl.data.table import TableSchema, known_rows
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError
from bayesdl.frozen.base import AbstractFrozen
from bayesdl.frozen.hidden import num_outputs, outputs_and_features
from bayesdl.frozen.schema import FrozenSchema
from bayesdl.model.language import NUMPYRO
from bayesdl.model.likelihoods import AbstractLikelihood, Normal
from bayesdl.typing import TableLike, Values
from inference.settings import is_positive


@dataclasses.dataclass(frozen=True)
class LastLayer(AbstractFrozen):
    """A Bayesian last layer on a trained torch or Equinox network.

    Give the network as it is, and the rows that it was trained on.

    Args:
        predictor: a torch module in evaluation mode, or an Equinox module that maps one row, whose
            last operation is a linear layer. None where X are predictions, in as many columns as
            there are outputs, followed by features.
        likelihood: the likelihood of the training loss: `Normal()`, or `Bernoulli()` and
            `Categorical()` where outputs are logits.
        scale: the prior standard deviation of the weights around the trained ones. With a prior
            precision p, or weight decay p on a loss that is the sum over n rows, it is
            1 / sqrt(p); where the loss is the mean over rows, 1 / sqrt(n p).

    Example:
        >>> import equinox as eqx, bayesdl as bdl
        >>> net = eqx.nn.MLP(1, 1, 8, 1, key=jax.random.key(0))
        >>> x = np.linspace(-1, 1, 40)[:, None]
        >>> y = np.asarray(jax.vmap(net)(x.astype(np.float32)))[:, 0] + 0.1 * np.sin(99 * x[:, 0])
        >>> model = LastLayer(net, scale=0.1)
        >>> post = bdl.fit(model, x, y, engine=bdl.Laplace(), progress=False)
        >>> post.predict(x[:3]).mean.shape
        (3,)
    """

    predictor: Any = None
    likelihood: Any = Normal()
    scale: float = 1.0

    def __post_init__(self) -> None:
        likelihood: AbstractLikelihood = self.likelihood
        if likelihood.num_outputs(3) > 3:
            raise ModelError(
                f"LastLayer takes one output for each target, and {likelihood} has more: use "
                "bdl.Normal() with one scale."
            )
        if not is_positive(self.scale):
            raise ValueError(f"LastLayer(scale={self.scale!r}): expected a positive number.")

    @property
    def standardize(self) -> bool:
        return self.likelihood.kind == "real"

    def in_units(self, scale: tuple[float, ...]) -> LastLayer:
        # the program needs no network, and compares by value without it
        return LastLayer(None, self.likelihood.in_units(scale), self.scale / scale[0])

    def program(self, X: jax.Array, y: jax.Array | None = None, *, num_targets: int = 1) -> None:
        outputs = self.likelihood.num_outputs(num_targets)
        offset, hidden = X[:, :outputs], X[:, outputs:]
        phi = jnp.concatenate([hidden, jnp.ones((len(X), 1), X.dtype)], axis=1)
        changes = dist.Normal(0.0, self.scale).expand((phi.shape[1], outputs)).to_event(2)
        change = numpyro.sample("change", changes)
        parameters = self.likelihood.parameters(num_targets, NUMPYRO)
        with numpyro.plate("rows", X.shape[0]) as index:
            f = offset[index] + phi[index] @ change
            given = self.likelihood.distribution(f, parameters, NUMPYRO)
            numpyro.sample("y", given, obs=None if y is None else y[index])

    def learn_schema(
        self, X: Values = None, y: Values = None, *, weights: Values = None, **options: Any
    ) -> FrozenSchema:
        """Learn the target, and in which units outputs are.

        Args:
            X: the rows that the network takes.
            y: the targets that it was trained on.
            weights: how much each row counts.
            **options: how the table is read.

        Raises:
            DataError: for outputs that do not go with the targets.
        """
        if X is None or y is None:
            found = super().learn_schema(X, y, weights=weights, **options)
            return FrozenSchema(found.columns, found.target, found.reading)
        self._check_labels(X, y, weights)
        table = self._table(X)
        reading = Reading.from_options(options)
        known, target, _ = known_rows(table, y, weights, reading)
        likelihood: AbstractLikelihood = self.likelihood
        learned = Target.learn(target, likelihood.kind, self.standardize, likelihood.two_classes)
        if len(learned.scale) != 1:
            raise DataError(f"LastLayer takes one target, and y has {len(learned.scale)} columns.")
        outputs = likelihood.num_outputs(learned.num_targets)
        given = self._outputs if self.predictor is not None else outputs
        if given != outputs:
            raise DataError(
                f"The network has {given} outputs, and {likelihood} with "
                f"{learned.num_targets} classes or targets needs {outputs}: give rows of every "
                "class, or another likelihood."
            )
        columns = Columns.learn(known, False, reading)
        width = len(columns.shift) - outputs
        columns = dataclasses.replace(
            columns,
            shift=(learned.shift[0],) * outputs + (0.0,) * width,
            scale=(learned.scale[0],) * outputs + (1.0,) * width,
        )
        return self._schema(TableSchema(columns, learned, reading), X, table)

    @property
    def _outputs(self) -> int:
        """The number of the network's outputs."""
        return num_outputs(self.predictor)

    def _table(self, X: TableLike) -> np.ndarray:
        self._refuse_none()
        if self.predictor is None:
            return np.asarray(X, np.float64)
        outputs, hidden = outputs_and_features(self.predictor, X)
        return np.concatenate([outputs, hidden], axis=1)

    def _answers(self, table: TableLike) -> np.ndarray:
        return np.asarray(table)[:, :1]
