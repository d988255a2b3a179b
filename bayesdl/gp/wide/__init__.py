"""The kernel of an infinitely wide network.

`network.py` is the kernel as plain data, `kernel.py` computes it, and `activations.py` has what it
needs of an activation.
"""
