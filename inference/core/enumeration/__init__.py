"""Sums over discrete latent sites: programs without them, their probabilities and draws.

NumPyro enumerates the values of sites, and funsor sums over them; both are wrapped here only.
"""
