"""Distributions that several engines or models share.

`bars` is the piecewise uniform distribution of a prior-data fitted network's target, and
`shifted_bars` is the same distribution in other units; both have their CRPS in closed form.
`bursts` is the prior and the posterior's arithmetic of weights whose large entries stand side by
side, which sparse variational inference uses. `calibration` has the expected calibration error.
"""
