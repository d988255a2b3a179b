"""What predictions do as a column changes.

Predictions along one column, by the levels of another.
"""

import numpy as np
import pandas as pd

import bayesdl as bdl

rng = np.random.default_rng(0)
table = pd.DataFrame({"dose": rng.uniform(0, 2, 100), "sex": rng.choice(["f", "m"], 100)})
y = np.sin(2 * table["dose"]) + (table["sex"] == "m") + 0.2 * rng.normal(size=100)
post = bdl.fit(bdl.BNN(hidden=(10,)), table, y, engine=bdl.Laplace(), progress=False)
bdl.plots.effects(bdl.effects.predictions(post, table, conditional=["dose", "sex"]))
