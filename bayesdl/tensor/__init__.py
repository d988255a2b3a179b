"""Functional tensors (FunBaT): the spec, its NumPyro program, and what a fitted tensor can do."""
