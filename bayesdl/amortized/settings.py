"""The settings of the training of a prior-data fitted network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from bayesdl.typing import InputKind, Integer, NetworkKind, Precision
from inference.core.typing import Key, KeywordArguments
from inference.renaming import warn_renamed


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of `bdl.PFN.train`: how long, on what data sets, and how large the network is.

    Attributes:
        steps: the number of steps of the optimiser; 10,000 if `seconds` is not given either.
        seconds: the seconds of training, from which the number of steps follows; it can differ
            from run to run.
        gap: the mean gap to the exact predictive distribution, in nats, below which training
            ends early. It is for models with a known one: Gaussian processes with fixed
            hyperparameters.
        num_inputs: the number of columns of X. `bdl.RandomBNN` and some Gaussian processes may
            take a range (fewest, most).
        max_rows: the largest number of rows of data.
        num_classes: the number of classes if the likelihood is `bdl.Categorical()`; for
            `bdl.RandomBNN(fewer_classes=True)` the largest number.
        inputs: the distribution of the rows of X: "normal" (like standardised columns),
            "uniform" on the unit cube, "tabular" (clusters, correlated and skewed columns, as
            in real tables), or a function (key, shape) -> X.
        bars: the number of bars of the predictive density of a number.
        width: the width of a token.
        layers: the number of attention layers.
        heads: the number of attention heads.
        hidden: the number of units of the MLP in a layer.
        frequencies: the number of sines and of cosines of each input.
        normalize: whether each data set's targets are read in units of their own mean and
            spread, for priors whose scale of y differs from data set to data set.
        kind: "rows", a transformer whose tokens are rows; "cells", where rows attend to one another
            column by column, so that the order of the columns does not matter and what is
            learned of one column holds for all (with p columns it costs 2 (1 + p) times as
            much); or "stacked", for classes: a small network that weights learners which are
            fitted to the data, for any number of rows and columns in any order.
        batch_size: the number of data sets per step.
        num_queries: the number of rows predicted in each data set.
        learning_rate: the highest learning rate.
        precision: "float32", or "bfloat16" for the network's arithmetic (weights and losses
            stay in single precision).
        devices: the number of devices over which the data sets of a step are spread.
        latents: the names of the program's sites, each of one number, whose posteriors are
            learned too; see `bdl.amortized.latent`.
        seed: the seed of weights and data sets.
        tokens: the former name of `kind`.

    Example:
        >>> Training(steps=2000, max_rows=20).batch_size
        32
    """

    steps: Integer | None = None
    seconds: float | None = None
    gap: float | None = None
    num_inputs: Integer | tuple[Integer, ...] = 1
    max_rows: Integer = 30
    num_classes: Integer = 2
    inputs: InputKind | Callable[[Key, tuple[int, int]], jax.Array] = "normal"
    bars: int = 1000
    width: int = 64
    layers: int = 4
    heads: int = 4
    hidden: int = 128
    frequencies: int = 4
    normalize: bool = False
    kind: NetworkKind = "rows"
    batch_size: Integer = 32
    num_queries: Integer = 10
    learning_rate: float = 1e-3
    precision: Precision = "float32"
    devices: int = 1
    latents: str | tuple[str, ...] = ()
    seed: Integer = 0
    tokens: NetworkKind | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            warn_renamed("Training(tokens=...)", "Training(kind=...)")
            object.__setattr__(self, "kind", self.tokens)
            object.__setattr__(self, "tokens", None)

    def by_name(self) -> KeywordArguments:
        """Return the settings by name, `latents` as a tuple."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        latents = self.latents
        return given | {"latents": (latents,) if isinstance(latents, str) else tuple(latents)}
