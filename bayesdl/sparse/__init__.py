"""What can be done with a fit by `bayesdl.SSVI`: its costs, a smaller budget, small files, torch, a NumPyro guide.

post = bayesdl.fit(model, X, y, engine=bayesdl.SSVI(density=0.05))
print(bayesdl.sparse.report(post))
bayesdl.sparse.export(post, "network.sparse")     # predicts with NumPy alone
"""

from bayesdl.sparse.fitted import SparseReport, guide, masks, rebudget, report
from bayesdl.sparse.saving import export, to_torch
from inference.sparse.patterns.pattern import BudgetError
from inference.sparse.products.portable import load

__all__ = [
    "BudgetError",
    "SparseReport",
    "export",
    "guide",
    "load",
    "masks",
    "rebudget",
    "report",
    "to_torch",
]
