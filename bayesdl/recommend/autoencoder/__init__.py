"""Variational autoencoders for collaborative filtering (Liang et al. 2018, arXiv:1802.05814).

From the inside out: `network.py` has the encoder and the decoder as functions of a dictionary of
weights, `likelihoods.py` the log likelihoods of rows, `objective.py` the bound, and `training.py`
the optimiser, the schedule of beta and the best epoch. `codes.py` gives a user's code, refines it
and scores the items from it, and `features.py` lets features of items explain the last layer.
`base.py` is the estimator that Mult-VAE and Mult-DAE share, and `spec.py` these two. `program.py`
is the same model as a NumPyro program with the encoder as its guide.
"""
