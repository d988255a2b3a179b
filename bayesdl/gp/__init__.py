"""Gaussian processes: a kernel and a normal likelihood.

`hyperparameters.py` draws the hyperparameters of kernels and checks their settings, `kernels.py`
has the kernels as plain data, and `stationary.py` computes stationary ones by one product of
matrices. `program.py` builds the process of the noisy targets and describes it to the engines for
Gaussian processes. `spec.py` is the model that users make, `GP`.
"""
