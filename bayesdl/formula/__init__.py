"""Regression models written as formulas.

Data flow one way: text (`parsing`) and table (`variables`, `design`) -> terms with their priors
(`learning`, which makes `terms`, `groups`, `smooths` by the likelihoods of `families`) -> one plan,
from which the NumPyro program and its printed form come (`program`).
"""
