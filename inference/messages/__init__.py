"""Message passing for functional tensors, the engine `MessagePassing`.

From the inside out: `forms.py` makes a function of several indexes from functions of one index, and
gives the message of each factor as sums over entries. `pseudo_observations.py` replaces each
likelihood term by a pseudo-observation. `iteration.py` updates all factors once and computes the
evidence bound; `inference.state_space` smooths each mode. `engine.py` runs restarts in compiled
blocks and keeps the best; `summary.py` says how relevant each function is. `predictive.py` predicts
new indexes, which are states without data, and `streaming.py` adds new entries to a fit.
"""
