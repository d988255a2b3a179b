"""Models: the abstract base, table models, NumPyro programs, and the likelihoods that they share."""
