"""Conjugate and Gaussian process answers."""
