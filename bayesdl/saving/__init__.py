"""Saved fits: bundles without code, and specs as JSON data."""
