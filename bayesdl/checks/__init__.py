"""Checks of a fit: convergence, and scores on held-out data."""
