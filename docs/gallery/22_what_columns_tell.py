"""What columns tell about each other.

A circuit of a table with gaps: which columns tell about which.
"""

import numpy as np
import pandas as pd

import bayesdl as bdl

rng = np.random.default_rng(0)
species = rng.choice(["Adelie", "Gentoo"], 200)
sex = rng.choice(["female", "male"], 200)
length = 190 + 25 * (species == "Gentoo") + 5 * (sex == "male") + 5 * rng.normal(size=200)
mass = 50 * length - 5600 + 400 * (sex == "male") + 150 * rng.normal(size=200)
table = pd.DataFrame({"species": species, "sex": sex, "length": length, "mass": mass})
table["ring"] = rng.choice(["left", "right"], 200)
table = table.mask(rng.random(table.shape) < 0.1)
post = bdl.fit(bdl.Circuit(), table, progress=False)
bdl.plots.dependence(post.dependence())
