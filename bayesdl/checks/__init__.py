"""Doubt: whether a fit, a model or an engine can be trusted, in words that name the cure.

`convergence.py` diagnoses a fit. It judges draws by the agreement of chains and approximations by
importance weights; what only the engine knows it says itself (`AbstractEngine.findings`), and a
`Diagnosis` (`diagnosis.py`) holds it all. `halving.py` runs a sampler again with half its step.
`densities.py` has log densities at posterior draws, on which `loo.py` (leave-one-out, comparison of
models) and `sensitivity.py` (power scaling) are built. `predictive.py` compares replicated data
with the observed ones by the statistics of `statistics.py`; `prior.py` draws data before any are
seen. `scores.py` judges predictions on held-out data, and `calibration.py` an engine on simulated
data, and refuses priors that cannot be drawn from.
"""
