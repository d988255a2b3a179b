"""The approximate posterior q over active weights, and the ELBO.

`sites.py` sorts the latent sites of a problem by what q does with them and computes the log joint
density. `priors.py` holds the priors of active weights, `divergence.py` the KL divergence of q from
them, and `objective.py` the tempered ELBO as a function of the parameters of q.
"""
