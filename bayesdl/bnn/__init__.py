"""Bayesian neural networks: the networks and the spec."""
