"""The Laplace approximation: a normal distribution at the mode of the posterior.

- `curvature.py` has Hessians, and roots of their inverses.
- `joint.py` is the textbook approximation of any program, at the joint mode.
- `network.py` is the approximation of a program that offers `LayeredNetwork`: generalised
  Gauss-Newton curvature for the weights, expectation maximisation for the other sites.
- `engine.py` is the one door to both: the settings, the choice, and the result (`result.py`).

`inference.vi.guides` starts its guide "laplace" from `curvature.py`.
"""
