"""Recommenders that are not neural networks, and the blend of several recommenders.

`popularity.py` counts, `ease.py` is a linear model of each item on all others with the posterior
of its weights, and `blend.py` multiplies the distributions of its members to powers that
validation users choose. Each is an `AbstractRecommender`; the module's docstring has its formula.
"""
