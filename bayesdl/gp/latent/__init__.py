"""Processes whose f is not integrated out, for likelihoods that are not normal.

`program.py` has the program with the values of f at the training rows, and `predictive.py` f at
new rows given those values.
"""
