"""Gaussian processes as linear state-space models, at a cost linear in the number of positions.

`matern.py` turns a Matern kernel into a state-space model of dimensionless states, with process
noise that does not cancel for small steps. `smoother.py` gives the moments and the log normaliser
of such functions, with derivatives, given information at each position; it has a sequential path
and a parallel one. `whitened.py` draws the same functions from independent noise, and continues
them to new positions.
"""
