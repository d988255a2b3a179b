"""Gradient estimators: runs of an objective, and unbiased derivatives of their expectation."""
