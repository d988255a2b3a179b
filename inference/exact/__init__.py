"""Gaussian process regression in closed form: the engine, and the predictive of its fits."""
