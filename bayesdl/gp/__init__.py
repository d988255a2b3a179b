"""Gaussian processes: the spec, its kernels, and stationary kernels computed by one matrix product."""
