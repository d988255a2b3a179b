"""The functions behind a table of indexes.

`FunBaT` learns one function for each index from entries of a table.
"""

import numpy as np
import pandas as pd

import bayesdl as bdl

rng = np.random.default_rng(0)
table = pd.DataFrame({"hour": rng.integers(0, 48, 500) / 2, "depth": rng.integers(0, 30, 500) / 10})
heat = np.sin(table["hour"] / 4) * np.exp(-table["depth"]) + 0.1 * rng.normal(size=500)
model = bdl.FunBaT(("hour", "depth"))
engine = bdl.MessagePassing(restarts=3)
post = bdl.fit(model, table, heat, engine=engine, progress=False)
bdl.plots.functions(bdl.tensor.mode(post, "hour").predict())
