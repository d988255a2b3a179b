"""Posteriors and their predictions, computed in a stream over draws and rows."""
