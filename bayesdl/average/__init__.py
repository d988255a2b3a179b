"""An average of a Gaussian process, or a linear model, and a network.

`spec.py` is the model that users make, `Table`; which members it has for how many rows stands in
`members.py`. The engine that fits them and finds their weights is `inference.stacking`.
"""
