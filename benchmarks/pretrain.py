"""Train the networks that ship with bayesdl, `bdl.PFN.pretrained(name)`, and a stacked one.

    python -m benchmarks.pretrain gp-regression
    python -m benchmarks.pretrain tabular-classification
    python -m benchmarks.pretrain stacked-classification --out FILE

The first two are trained on small data sets first, which are cheap, and then on larger ones. The
last one does not ship yet.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpyro.distributions as dist

import bayesdl as bdl
from bayesdl.amortized.pfn import PRETRAINED
from bayesdl.model.base import AbstractModel

GP = bdl.GP(
    bdl.kernels.Matern52(
        lengthscale=dist.LogNormal(0.7, 0.7), variance=dist.LogNormal(0.0, 0.5), ard=True
    ),
    bdl.Normal(dist.LogNormal(-1.6, 1.0)),
)


class Recipe(NamedTuple):
    """The recipe by which a network is trained.

    Attributes:
        model: the prior.
        settings: the arguments of `bdl.PFN.train` that are the same in all phases.
        phases: the other arguments for each phase.
    """

    model: AbstractModel
    settings: dict[str, Any]
    phases: tuple[dict[str, Any], ...]


RECIPES = {
    "gp-regression": Recipe(
        GP,
        {"num_inputs": (1, 8), "inputs": "tabular", "latents": ("sigma",)},
        (
            {"steps": 8000, "max_rows": 32, "batch_size": 64, "learning_rate": 2e-3},
            {
                "steps": 3000,
                "max_rows": 128,
                "batch_size": 32,
                "learning_rate": 7e-4,
                "num_queries": 16,
            },
        ),
    ),
    "tabular-classification": Recipe(
        bdl.RandomBNN(likelihood=bdl.Categorical(), fewer_classes=True),
        {"num_inputs": (1, 30), "inputs": "tabular", "num_classes": 10, "num_queries": 16},
        (
            {"steps": 4000, "max_rows": 64, "batch_size": 64, "learning_rate": 2e-3},
            {"steps": 400, "max_rows": 300, "batch_size": 32, "learning_rate": 7e-4},
        ),
    ),
    "stacked-classification": Recipe(
        bdl.RandomTable(),
        {
            "kind": "stacked",
            "num_inputs": (2, 40),
            "num_classes": 10,
            "num_queries": 24,
            "max_rows": 300,
        },
        ({"steps": 2400, "batch_size": 32, "learning_rate": 2e-3},),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--out", default=None, help="where to write it, if not in its place")
    given = parser.parse_args()
    name = given.name
    recipe, pfn = RECIPES[name], None
    for phase in recipe.phases:
        training = bdl.amortized.Training(**recipe.settings, **phase)
        pfn = bdl.PFN.train(recipe.model, training, start=pfn)
        print(pfn, flush=True)
    assert pfn is not None
    pfn.save(given.out or PRETRAINED / f"{name}.pfn")


if __name__ == "__main__":
    main()
