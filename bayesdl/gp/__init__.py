"""Gaussian processes: a kernel and a normal likelihood.

`hyperparameters.py` draws the hyperparameters of kernels and checks their settings, `kernels.py`
has the kernels as plain data, and `stationary.py` computes stationary ones by one product of
matrices. `wide_network.py` is the kernel of an infinitely wide network as plain data,
`wide_kernel.py` computes it, and `activations.py` has what it needs of an activation. `program.py`
builds the process of the noisy targets and describes it to the engines for Gaussian processes.
`spec.py` is the model that users make, `GP`.
"""
