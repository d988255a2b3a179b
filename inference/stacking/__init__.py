"""Averages of several models of the same rows, weighted by how they predict rows left out.

- `members.py`: the structure of a problem that has members, each with its own problem and engine.
- `weights.py`: stacking, a concave program.
- `mixture.py`: the mixture of the members' predictions as one distribution.
- `engine.py`: `Stacking`, which fits the members; `result.py`: what it returns.
"""
