"""NumPyro programs with the user's own data: what is checked, and when.

- `posing.py`: before anything else, whether the program runs with its arguments.
- `observations.py`: before a fit, whether observed values have the shape and the support of their
  distributions; rows that are NaN.
- `indexing.py`: indexes out of range, in training and in new data.
- `new_data.py`: whether latent sites have at new data the shapes of their draws; draws for new
  groups.
- `summed.py`: predictions where discrete sites were summed out.

`../program.py` is the model that uses them.
"""
