"""Training a sparse posterior: steps of an optimiser, and exchanges of tiles between them.

`settings.py` holds the settings of the engine. `scores.py` scores active tiles, of which the lowest
are removed, and `growth.py` finds the most promising inactive ones. `exchange.py` plans an exchange
and moves weights and the optimiser's state. `training.py` puts these together as pure functions,
which `runs.py` compiles and calls block by block, with checkpoints.
"""
