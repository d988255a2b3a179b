"""The members of an average: which models and engines, and which rows each of them sees.

The process is a linear function plus a smooth one, so that it holds the linear model; where the
noise is not normal, the linear model is a member by itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from bayesdl import priors
from bayesdl.bnn.spec import BNN
from bayesdl.gp import kernels
from bayesdl.gp.spec import GP
from bayesdl.model.likelihoods import AbstractLikelihood, Normal
from bayesdl.model.table import AbstractTableModel
from inference.core.engine import AbstractEngine
from inference.exact.gp import ExactGP
from inference.laplace.engine import Laplace

# with more rows some are held out for the weights, and members see a part of the others
MANY_ROWS = 3000
HELD_OUT = 0.1
MOST_HELD_OUT = 5000
# the largest number of rows for a Gaussian process in closed form, and for a network
PROCESS_ROWS, NETWORK_ROWS = 2000, 4000
# of rows from which the hyperparameters of a process are found
SEARCH_ROWS = 400
# the widest inputs for a length scale each
MOST_COLUMNS = 50
# the size of the logits of a linear model before it has seen data: rows that are left out are more
# probable than with the 3 of networks, which a test of scikit-learn's sets sees
LINEAR_LOGITS = 10.0
SEED = 0


class Choice(NamedTuple):
    """A member before it has data.

    Attributes:
        name: its name.
        model: its model.
        engine: the engine that fits it.
        most_rows: the largest number of rows that it is given; None for no bound.
    """

    name: str
    model: AbstractTableModel
    engine: AbstractEngine
    most_rows: int | None


def choose_members(
    likelihood: AbstractLikelihood, standardize: bool, hidden: tuple[int, ...], num_columns: int
) -> tuple[Choice, ...]:
    """Return the members for a likelihood and a number of encoded columns."""
    settings = {"likelihood": likelihood, "standardize": standardize}
    network = Choice(
        "network", BNN(hidden=hidden, **settings), Laplace(num_rounds=15), NETWORK_ROWS
    )
    if not isinstance(likelihood, Normal) or likelihood.scale == "heteroscedastic":
        prior = priors.Gaussian(LINEAR_LOGITS) if likelihood.kind == "class" else None
        linear = BNN(hidden=(), prior=cast(Any, prior), **settings)
        return Choice("linear", linear, Laplace(), None), network
    kernel = kernels.Linear() + kernels.RBF(ard=num_columns <= MOST_COLUMNS)
    engine = ExactGP("map", num_restarts=2, search_rows=SEARCH_ROWS)
    return Choice("process", GP(kernel=kernel, **settings), engine, PROCESS_ROWS), network


def split_rows(num_rows: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the rows that members may see and those that are held out; None for all and none."""
    if num_rows <= MANY_ROWS:
        return None, None
    order = np.random.default_rng(SEED).permutation(num_rows)
    held = min(MOST_HELD_OUT, int(HELD_OUT * num_rows))
    return order[held:], order[:held]
