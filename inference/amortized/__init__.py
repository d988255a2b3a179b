"""Amortized inference: networks that read data and answer with a predictive distribution.

From the inside out:

- `layers` has attention and the other pieces of a transformer. `network` is the common part of the
  networks, `row_network` and `cell_network` are the two kinds, and `kinds` lists them.
- `inputs` has distributions of inputs, and `tasks` draws data sets from a program.
- `training` is the training loop, and `saving` its checkpoints.
- `answer` turns a network and one data set into predictive distributions.
- `certificate` measures how good a network is, and `surprise` whether data are like the prior's.

The distributions that networks give are in `inference.distributions`. Models, files and the engine
`PFN` are in `bayesdl.amortized`.
"""
