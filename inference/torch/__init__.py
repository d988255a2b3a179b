"""Engines that run on torch; torch itself is loaded only when one of them runs.

`install.py` loads torch and the libraries on it, or says how to install them. `pyro_nuts.py` is
NUTS by Pyro, `gpytorch_gp.py` Gaussian process regression by GPyTorch, and `gp_models.py` has the
two models of GPyTorch that it fits.
"""
