"""Variational inference with programmable objectives and gradient estimators.

The files, from the inside out:

- `gradients/` runs a NumPyro program with a key per site name, and has the gradient estimators;
  its docstring says more.
- `distributions.py` is what objectives are given: a program that can be drawn from and evaluated.
- `constructs.py` is what they may build: marginals, and posteriors by weighted draws.
- `expectation.py` is E[objective] as a function of parameters, with unbiased value and gradient.
- `objectives.py` has the objectives that the package ships. A new one is a function of (p, q)
  with `@register`.
- `check.py` tests whether gradients are unbiased.
- `guides.py` makes NumPyro's autoguides by name.
- `parameters.py` has the unconstrained space of the parameters, and flattens them for storage.
- `optimise.py` maximises an expectation in compiled blocks of steps.
- `validation.py` refuses programs and guides that cannot work.
- `engine.py` is the engine `VI`: settings, the run, and the result (`result.py`), with what it
  finds wrong with it (`findings.py`).
"""
