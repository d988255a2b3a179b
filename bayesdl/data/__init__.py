"""Tables of data: validated cells, input columns and targets, learned once from the training data."""
