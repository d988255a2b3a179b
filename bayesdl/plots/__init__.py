"""Pictures of predictions and posteriors. Each function draws on the axes it is given, or makes its own, and returns them.

Matplotlib is imported by the functions, so that `import bayesdl` stays light.
"""

from bayesdl.plots.chains import posterior, trace
from bayesdl.plots.checks import calibration_ranks, predictive_check, prior_predictive
from bayesdl.plots.predictions import (
    calibration,
    class_prediction,
    functions,
    prediction,
)

__all__ = [
    "calibration",
    "calibration_ranks",
    "class_prediction",
    "functions",
    "posterior",
    "prediction",
    "predictive_check",
    "prior_predictive",
    "trace",
]
