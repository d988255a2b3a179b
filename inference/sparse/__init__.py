"""Sparse subspace variational inference: a mean-field normal posterior over a budget of weights."""
