"""Names for the types of public functions.

What users pass is validated by `bayesdl.data`, with errors that say the cure; therefore the
aliases for user data are checked by type checkers only, and are `object` at run time. Likewise
the words that settings take are `str`, as what takes them refuses others and lists its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from inference.core.engine import AbstractEngine
from inference.core.progress import AbstractProgress
from inference.core.typing import (
    Integer,
    Key,
    NetworkKind,
    Params,
    Precision,
    Program,
    SiteArrays,
    StoredArrays,
)

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse
    from jax.typing import ArrayLike
    from matplotlib.axes import Axes

    TableLike: TypeAlias = (
        ArrayLike
        | Sequence[Any]
        | Mapping[str, Any]
        | pd.DataFrame
        | pd.Series
        | scipy.sparse.sparray
        | scipy.sparse.spmatrix
    )
    """Rows of inputs X: a numeric array (rows, columns), a DataFrame, or what becomes one."""

    ColumnLike: TypeAlias = ArrayLike | Sequence[Any] | pd.Series | pd.DataFrame | pd.Index
    """Targets y, labels or names: an array (rows,) or (rows, targets), a Series, or a list."""

    Cells: TypeAlias = pd.Series
    """A column of a table."""

    DataFrame: TypeAlias = pd.DataFrame
    """A table that a function returns; pandas is imported when it is made."""

    AxesLike: TypeAlias = Axes | Sequence[Axes] | np.ndarray | None
    """Matplotlib axes to draw on, one or several; None makes new ones."""

    EngineLike: TypeAlias = AbstractEngine | Literal["auto"] | str
    """An engine, the name of one in any case, or "auto"."""

    NewLevels: TypeAlias = Literal["sample"]
    """What is done with entries of latent sites that the training data did not have."""

    SiteLike: TypeAlias = str | None
    """The name of a site; a program with an argument `site` of its own may take anything."""

    TargetKind: TypeAlias = Literal["real", "count", "class"]
    """What targets are."""

    Activation: TypeAlias = Literal["tanh", "relu", "gelu", "silu", "sine", "erf"]
    """The activation of hidden layers."""

    ConformalScore: TypeAlias = Literal[
        "cdf", "sd", "absolute", "quantile", "density", "aps", "raps"
    ]
    """By what held-out rows are ranked."""

    MapName: TypeAlias = Literal[
        "beta", "spline", "isotonic", "temperature", "vector", "dirichlet", "venn-abers"
    ]
    """A map of levels or of class probabilities."""

    Scaling: TypeAlias = Literal["ntk", "standard"]
    """Whether a layer divides by the root of its fan-in."""

    ScaleFamily: TypeAlias = Literal["half_normal", "inverse_gamma"]
    """The distribution of an unknown scale."""

    TensorForm: TypeAlias = Literal["cp", "tucker"]
    """How the functions of a tensor's modes are multiplied."""

    FunctionLoss: TypeAlias = Literal["energy", "sliced_w2", "bures", "wasserstein"]
    """A distance between distributions of functions."""

    InputKind: TypeAlias = Literal["normal", "uniform", "tabular"]
    """The distribution of simulated inputs."""

    Weighting: TypeAlias = Literal["stacking", "BB-pseudo-BMA", "pseudo-BMA"]
    """How compared models are weighted."""

    ItemLikelihood: TypeAlias = Literal["multinomial", "bernoulli", "gaussian", "poisson"]
    """The distribution of a user's items."""

    TastePrior: TypeAlias = Literal["normal", "vamp", "composite"]
    """The prior of what is not known of a user."""

    Contrast: TypeAlias = Literal["difference", "ratio", "lift"]
    """How two predictions are compared."""

    Strategy: TypeAlias = Literal["mean", "thompson", "ucb"]
    """By what items are ranked."""
else:
    EngineLike = TableLike = ColumnLike = Cells = DataFrame = AxesLike = SiteLike = object
    NewLevels = str
    ConformalScore = MapName = Contrast = str
    TargetKind = Activation = Scaling = ScaleFamily = TensorForm = FunctionLoss = str
    InputKind = Weighting = ItemLikelihood = TastePrior = Strategy = str

Values: TypeAlias = Any
"""Cells as a user gave them; what they are is found out where they are validated."""

Frame: TypeAlias = Any
"""A pandas DataFrame; pandas is imported lazily, and has no types of its own."""

Series: TypeAlias = Any
"""A pandas Series."""

Schema: TypeAlias = Any
"""What a model learned about its data: a `TableSchema` or a `ProgramSchema`."""

ProgressLike: TypeAlias = bool | AbstractProgress
"""Whether to show a progress bar, or what shows it."""

__all__ = [
    "Activation",
    "AxesLike",
    "Cells",
    "ColumnLike",
    "ConformalScore",
    "Contrast",
    "DataFrame",
    "EngineLike",
    "Frame",
    "FunctionLoss",
    "InputKind",
    "Integer",
    "ItemLikelihood",
    "Key",
    "MapName",
    "NetworkKind",
    "Params",
    "Precision",
    "Program",
    "ProgressLike",
    "ScaleFamily",
    "Scaling",
    "Schema",
    "Series",
    "SiteArrays",
    "StoredArrays",
    "Strategy",
    "TableLike",
    "TargetKind",
    "TastePrior",
    "TensorForm",
    "Values",
    "Weighting",
]
