"""Sets with a guarantee: P(y in set) >= level for exchangeable rows, whatever the model.

`making.py` is the front door. `add_one_in.py` needs no data beside the training rows; `search.py`
finds its sets of numbers. `split.py` ranks held-out rows by the scores of `scores.py` (numbers) or
`labels.py` (classes), within groups too. `refits.py` is the jackknife+ and CV+, `systems.py` gives
a whole distribution. `prediction.py` is what they return.
"""
