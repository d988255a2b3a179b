"""Predictors that exist already: how sure they may be, learned from rows they have not seen.

`predictors.py` asks scikit-learn estimators, torch and Equinox modules, and anything that predicts;
`program.py` has the heads, small Bayesian models of y given what the predictor says; `spec.py` is
the model, `schema.py` what it learns of the data, and `last_layer.py` puts doubt into the last
layer of a network.
"""
