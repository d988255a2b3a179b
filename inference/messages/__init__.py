"""Message passing for functional tensors: Gaussian processes as state-space models, and their products."""
