"""Formulas in the shell: `bayesdl fit --formula`, and the effects of any saved fit.

`building.py` makes the model from the options, `commands.py` has what the commands do.
"""
