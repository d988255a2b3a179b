"""Gaussian processes as linear state-space models: kernels, smoothing and whitened states."""
