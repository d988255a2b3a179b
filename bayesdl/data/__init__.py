"""Data: from tables, arrays and lists to finite numbers, and back to the user's units.

In the order in which data flow:

- `validation.py`: cells as finite doubles; `DataError` and `ModelError`, which say what was got,
  what was expected, where, and what to do.
- `columns.py`: the input columns, their names, categories and scaling; `target.py`: the target,
  its kind, classes and scaling. Both are learned once from the training data.
- `table.py`: the schema of a table, columns and target together, which is saved with a fit.
"""
