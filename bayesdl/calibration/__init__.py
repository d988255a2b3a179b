"""Predictions with a guarantee, and recalibrated ones: adjustments of a posterior.

`conformal/` makes sets that hold the target as often as was asked for, whatever the model
(`post.conformal`); `maps/` bends the predictive distribution until its levels are what happens
(`post.recalibrate`). Both are `AbstractAdjustment`s, which `predict` applies and bundles keep.
`ranks.py` has the order statistics behind all of it, `held_out.py` judges the rows that are given.
"""
