"""The approximate posterior q and the ELBO."""
