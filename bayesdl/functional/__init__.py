"""Functional priors: weight priors tuned until a network's functions look like those of a Gaussian process.

Flow: inputs -> measurement sets -> draws of the target and of the network -> a distance between them -> a prior -> a report.
Reference: Tran, Rossi, Milios and Filippone (2022), JMLR 23, arXiv:2011.12829.
"""
