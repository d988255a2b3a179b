"""Gradient estimators: runs of an objective, and unbiased derivatives of their expectation.

The files, from the inside out:

- `elements.py` describes the independent elements of a site's distribution.
- `replacements.py` has the coupled draws of the measure-valued derivative, by distribution.
- `estimators.py` says how the gradient passes a site: `Reparam`, `Implicit`, `Reinforce`, `Enum`,
  `MVD`.
- `programs.py` runs a NumPyro program with a key per site name, so that it can be run again with
  one draw replaced.
- `runs.py` is one run of an objective, and the programs that it draws from.
- `resolve.py` resolves the sites of a run, outermost first, by running the objective again.

A new estimator is a frozen dataclass in `estimators.py`, a clause in `Resolver.estimate_rest`, and
cells in `tests/inference/vi/test_vi_estimators.py`, where every estimator is held to z-tests
against an exact gradient.
"""
