"""Models: what is believed, as frozen dataclasses of plain data.

From the inside out:

- `base.py`: the abstract model. It learns a schema from data, builds a problem for engines, and
  says what is predicted and how.
- `table.py`: models of rows X and targets y, whose program has the site "y"; `program.py`: any
  NumPyro program as a model, whose data `programs/` checks.
- `names.py`: names of dimensions and of entries along them; `weights.py`: rows that count more than
  others.
- `likelihoods.py`: distributions of targets, shared by table models; `language.py`: the words in
  which priors and likelihoods are written once for NumPyro and Pyro; `precision.py`: 64 bits where
  a model needs them.
- `examples.py`: small problems, and how the command line makes a model; `registry.py`: the models
  that the whole package knows, which `bayesdl/models.py` lists.

The families themselves (`bnn/`, `gp/`, `tensor/`, `amortized/`, `recommend/`) are beside this room.
"""
