"""Bridges to other libraries: ArviZ, Pyro, GPyTorch and torch, imported only when they are used."""
