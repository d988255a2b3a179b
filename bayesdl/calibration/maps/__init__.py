"""Recalibration: maps of the predictive distribution, learned from how predictions turned out.

`levels.py` maps the levels of numbers, F* = R(F(y)); `probabilities.py` maps the probabilities of
classes. `transforms.py` has what happened: integral transforms by leave-one-out or of held-out
rows. `making.py` is the front door, `prediction.py` what it returns.
"""
