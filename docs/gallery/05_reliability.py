"""Are the levels what happens?.

Predicted levels against observed shares on held-out rows, with the band of chance.
"""

from sklearn.datasets import load_diabetes

import bayesdl as bdl

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = bdl.BNN(hidden=(10,))
post = bdl.fit(model, X[:250], y[:250], engine=bdl.Laplace(), progress=False)
bdl.plots.calibration(post.predict(X[250:]), y[250:])
