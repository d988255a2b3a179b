"""Stacked networks: base learners that are fitted to the context, and a gate that weights them.

From the inside out:

- `columns` reads columns as standardised values and as ranks.
- `kernels` has the kernels of rows, `kernel_logistic` logistic regression with a kernel, and
  `discriminant` linear and quadratic discriminants. Each gives leave-one-out values.
- `learners` lists the learners and fits them together, and `statistics` says how good they are.
- `gate` is the network that weights them, and `network` puts all together.
"""
