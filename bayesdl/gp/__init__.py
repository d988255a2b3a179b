"""Gaussian processes: a kernel and a normal likelihood.

`hyperparameters.py` draws the hyperparameters of kernels and checks their settings. `kernels.py`
has the usual kernels as plain data and their algebra, which `printing.py` writes as Python;
`fractional.py`, `spectral_mixture.py`, `changepoint.py` and the folder `wide` have further kernels.
`matrices.py` computes kernels whole matrices at once. `program.py` builds the process of the noisy
targets and describes it to the engines for Gaussian processes. `spec.py` is the model that users
make, `GP`.
"""
