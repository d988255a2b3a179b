"""Engines that run on torch (Pyro, GPyTorch); never imported by the JAX side."""
