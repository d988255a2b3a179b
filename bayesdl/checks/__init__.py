"""Checks of a model and of a fit: convergence, scores, predictive checks, leave-one-out, sensitivity, prior draws."""
