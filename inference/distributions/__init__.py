"""Distributions that several engines or models share."""
