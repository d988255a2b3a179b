"""Bayesian neural networks: a prior over weights, a network and a likelihood.

`networks.py` defines a network as a plain function of named arrays of weights, and has the
perceptron; `conv.py` has convolutional networks and `equinox_network.py` wraps any Equinox
module. `program.py` joins a network, a prior and a likelihood into a NumPyro or Pyro program, and
describes it to engines that exploit its layers. `limit.py` gives the Gaussian process of
infinitely wide layers. `spec.py` is the model that users make, `BNN`.
"""
