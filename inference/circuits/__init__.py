"""Probabilistic circuits: exact answers about any column of a table given any others.

- `layout.py`: a forest of hidden states, and the leaves on its nodes; plain data.
- `passes.py`: the upward pass, log p(x), and the downward pass, all of its derivatives.
- `leaves.py`: log densities of categories and of blocks of numbers, with missing cells.
- `statistics.py`: expected statistics of rows, and conjugate posteriors made of them.
- `learning.py`: passes in minibatches and over all rows, priors and starts.
- `shape/`: which columns depend on which, which blocks, how many states.
- `queries.py`: distributions of cells, and draws of them.
- `left_out.py`: states and cells given all other cells of a row, in logarithms throughout.
- `model.py`: the same circuit as a NumPyro distribution and program.
- `predictive.py`: the predictive of one column, as predictions take it.
- `engine.py`: `VBEM` and `EM`; `result.py`: what they return.
"""
