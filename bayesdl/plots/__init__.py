"""Pictures of predictions and posteriors.

Each function draws on the axes it is given, or makes its own, and returns them. Matplotlib is
imported by the functions, so that `import bayesdl` stays light.

`axes.py` makes axes and has the colours; `predictions.py` draws predictions and their calibration,
`judging.py` predictions beside what happened, `chains.py` draws of posteriors, `pairs.py` those
against each other and counts, `diagnostics.py` how a posterior was computed, `checks.py` the
results of checks, `functional.py` priors on functions; `html.py` writes tables for notebooks. What
has a `plot` method reaches them by one door, `bayesdl.posterior.pictures`.
"""

from bayesdl.plots.chains import posterior, ranks, trace
from bayesdl.plots.checks import calibration_ranks, predictive_check, prior_predictive
from bayesdl.plots.diagnostics import energy, ess, pareto_k, prior_posterior, training
from bayesdl.plots.effects import band, effects
from bayesdl.plots.forest import forest
from bayesdl.plots.judging import levels, rejection
from bayesdl.plots.pairs import dependence, pair, rootogram
from bayesdl.plots.predictions import (
    calibration,
    class_prediction,
    functions,
    prediction,
)

__all__ = [
    "band",
    "calibration",
    "calibration_ranks",
    "class_prediction",
    "dependence",
    "effects",
    "energy",
    "ess",
    "forest",
    "functions",
    "levels",
    "pair",
    "pareto_k",
    "posterior",
    "prediction",
    "predictive_check",
    "prior_posterior",
    "prior_predictive",
    "ranks",
    "rejection",
    "rootogram",
    "trace",
    "training",
]
