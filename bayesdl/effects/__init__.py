"""Effects: what a fit says of the outcome at rows that one asks about.

`predictions` gives E[y | x], `comparisons` how it changes when a column changes, `slopes` its
derivative: for each row, on average, by groups, or at a grid of typical rows. Every fit that
predicts has them, whatever the model and the engine.

`grids.py` reads tables and makes rows, `estimates.py` has the three functions; their result is in
`bayesdl/posterior/means.py`.
"""

from bayesdl.effects.estimates import comparisons, predictions, slopes
from bayesdl.posterior.means import Effects

__all__ = ["Effects", "comparisons", "predictions", "slopes"]
