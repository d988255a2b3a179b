"""`bayesdl impute` and `bayesdl outliers`: tables without a target.

`parser.py` has their arguments, `commands.py` what they do.
"""
