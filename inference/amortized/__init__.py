"""Amortized inference: networks that read data and answer with a predictive distribution."""
