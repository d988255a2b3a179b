"""Which weights may be active: patterns of tiles, budgets over layers, and the layout in memory.

`pattern.py` cuts one matrix of weights into tiles and says how many of them are active.
`budget.py` spreads a density over the layers and gives each its pattern. `layout.py` keeps the
tiles of all layers in stores. `support.py` computes what active tiles say about supports under a
prior of bursts.
"""
