"""Evaluation of recommenders: splits of users, ranking metrics and comparisons with standard errors."""
