"""Which engine runs which model, asked of the engines themselves on toy problems."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.bnn.spec import BNN
from bayesdl.engines import ENGINES
from bayesdl.gp.spec import GP
from bayesdl.model.program import Program
from bayesdl.priors import Horseshoe, LayerHierarchical
from bayesdl.tensor.spec import FunBaT


def support() -> dict[str, dict[str, str | None]]:
    """By engine and kind of model: None where the engine runs it, otherwise the reason why not.

    Example:
        >>> support()["NUTS"]["BNN"] is None
        True
    """
    problems = toy_problems()
    return {
        cls.__name__: {name: cls().supports(problem) for name, problem in problems.items()}
        for cls in ENGINES
    }


def toy_problems() -> dict[str, Any]:
    """A small problem of each kind of model."""
    import equinox as eqx
    import jax

    X = np.linspace(-1.0, 1.0, 6)[:, None]
    y = np.sin(3 * X[:, 0])
    network = eqx.nn.MLP(1, 1, 3, 1, key=jax.random.key(0))
    cases = {
        "any NumPyro program": (Program(line), (X[:, 0],), {"y": y}),
        "BNN": (BNN(hidden=(3,)), (X, y), {}),
        "BNN with an Equinox network": (BNN(network=network), (X, y), {}),
        "BNN with a heavy-tailed prior": (BNN(hidden=(3,), prior=Horseshoe()), (X, y), {}),
        "BNN with a matched prior": (BNN(hidden=(3,), prior=LayerHierarchical()), (X, y), {}),
        "GP": (GP(), (X, y), {}),
        "FunBaT": (FunBaT(("i", "j")), (np.concatenate([X, X[::-1] ** 2], 1), y), {}),
    }
    return {
        name: model.problem(model.learn_schema(*data, **kw), *data, **kw)
        for name, (model, data, kw) in cases.items()
    }


def line(x: Any, y: Any = None) -> None:
    """A straight line through points with normal noise, its rows in a plate."""
    import numpyro
    import numpyro.distributions as dist

    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x)) as rows:
        numpyro.sample(
            "y", dist.Normal(intercept + slope * x[rows], 1.0), obs=None if y is None else y[rows]
        )


def markdown(table: dict[str, dict[str, str | None]] | None = None) -> str:
    """The table in Markdown, with numbered reasons below it; reads well as plain text too."""
    table = support() if table is None else table
    reasons = list(dict.fromkeys(why for row in table.values() for why in row.values() if why))
    models = list(next(iter(table.values())))
    cells = [["engine", *models]]
    for engine, row in table.items():
        cells.append(
            [engine, *(f"no ({reasons.index(why) + 1})" if why else "yes" for why in row.values())]
        )
    widths = [max(len(line[j]) for line in cells) for j in range(len(models) + 1)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"{number}. {why}" for number, why in enumerate(reasons, 1)]
    return "\n".join([*lines, *([""] if notes else []), *notes])
