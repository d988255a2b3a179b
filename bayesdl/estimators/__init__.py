"""What `bayesdl.sklearn` is made of.

`base.py` is the common part of all estimators, `calibrated.py` puts doubt around any estimator,
`tables.py` fills missing cells and gives densities of rows.
"""
