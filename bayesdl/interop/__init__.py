"""Bridges to other libraries, imported only when they are used.

`arviz.py` gives posteriors to ArviZ. `pyro.py` is the modelling language in Pyro's words, with the
activation functions of torch from `activations.py`. `gpytorch.py` writes kernels in GPyTorch, and
reads the moments of GPyTorch's own.
"""
