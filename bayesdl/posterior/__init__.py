"""What a fit gives back, and what it predicts.

`core.py` has the parts of a posterior, its draws and predictions; checks, bundles and ArviZ read
only these. `posterior.py` has the verbs above (diagnose, score, save, ...). A prediction
(`interface.py` declares it, `prediction.py` computes it) asks a stream (`streaming.py`) for
statistics of the mixture over draws, chunk by chunk of rows. `pictures.py` is the door to plots.
"""
