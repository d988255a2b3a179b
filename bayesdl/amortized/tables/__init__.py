"""Random tables: a prior over data sets like those that people have, to train networks on.

- `pool` hands out random numbers.
- `rows` draws rows of inputs, and `columns` turns them into columns as they are measured.
- `functions` draws scores of classes given inputs: linear, networks, trees and additive functions.
- `clouds` draws classes first, and inputs given classes.
- `spec` is the model `RandomTable`.
"""
