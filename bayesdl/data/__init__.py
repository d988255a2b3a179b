"""Data: from tables, arrays and lists to finite numbers, and back to the user's units.

In the order in which data flow:

- `validation.py`: `DataError` and `ModelError`, which say what was got, what was expected, where,
  and what to do; all problems of a table are gathered into one error.
- `frames.py`: tables of any library as DataFrames or arrays.
- `reading.py`: how a table is read: settings of `fit` that are stored with it.
- `cells.py`: what one column holds, and its cells as numbers or labels; `encoding.py`: one column
  as columns of numbers.
- `columns.py`: the input columns, their names, encodings and scaling; `target.py`: the target, its
  kind, classes and scaling. Both are learned once from the training data.
- `table.py`: the schema of a table, columns and target together, which is saved with a fit.
"""
