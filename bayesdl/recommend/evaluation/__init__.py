"""Evaluation of recommenders: the protocol of Liang et al. (2018), arXiv:1802.05814.

`split.py` holds users out and hides a share of their items, `metrics.py` has the ranking metrics of
these items, and `comparison.py` compares recommenders with standard errors and paired differences.
"""
