"""Functional priors: weight priors tuned until a network's functions look like a target's.

Reference: Tran, Rossi, Milios and Filippone (2022), JMLR 23, arXiv:2011.12829.

In the order in which data flow: `problem.py` reads the inputs and joins network and target,
`measure.py` draws the points at which functions are compared, `targets.py` and `draws.py` draw
the functions of target and network at these points, and `losses.py` (and `dual.py`) measure the
distance between both sets. `optimise.py` minimises the distance over the numbers of a prior,
`match.py` is the front door, and `report.py` and `comparison.py` say how near the result is.
`nngp.py` computes the kernel of a wide network, a start that needs no draws, and `noise.py` draws
many normal sites from one vector. A prior that can be tuned is an `AbstractFamily` of
`bayesdl/priors/family.py`.
"""
