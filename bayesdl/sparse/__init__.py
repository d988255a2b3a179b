"""What can be done with a fit with `bayesdl.SSVI`: costs, smaller budgets, files, torch, a guide.

    post = bayesdl.fit(model, X, y, engine=bayesdl.SSVI(density=0.05))
    print(bayesdl.sparse.report(post))
    bayesdl.sparse.export(post, "network.sparse")     # predicts with NumPy alone

`costs.py` reports what a fit costs. `fitted.py` has what only sparse fits can do: masks, smaller
budgets, guides. `saving.py` writes small files and makes torch modules, which `torch_module.py`
defines. The engine and what it computes are in `inference/sparse/`.
"""

from bayesdl.sparse.costs import SparseReport, report
from bayesdl.sparse.fitted import guide, masks, rebudget
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
