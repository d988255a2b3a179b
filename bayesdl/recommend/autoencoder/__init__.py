"""Variational autoencoders for collaborative filtering: the spec, its networks, training and NumPyro program."""
