"""Sparse subspace variational inference: a normal posterior over a budget of weights.

From the inside out:

- `patterns/` says which weights may be active: tiles of a matrix, budgets over layers, the layout
  of the stores that hold them.
- `products/` multiplies by few active weights, and draws these weights from q while the network
  runs. `products/portable.py` reads exported files, and needs NumPy alone.
- `variational/` is q: which latent sites are points or normal, the priors of active weights, the KL
  divergence and the tempered ELBO.
- `training/` has the settings, the steps of the optimiser, the exchanges of tiles between them, and
  the run of compiled blocks with its checkpoints.
- `posterior.py` gives the fitted q as a result, and `decompression.py` turns its draws, which are
  kept as values of active weights, into all sites of the program.
- `costs.py` counts weights and operations, `prune.py` gives a fitted q a smaller budget, and
  `validation.py` says what is refused and warned about.
- `engine.py` is the engine, `SSVI`.

Each folder imports only those above it, and `portable.py` may be copied beside a program.
"""
