"""Load golden files and ask them for numbers: how each is loaded, and the arrays that it gives.

Arrays whose names begin with "exact" are compared bit for bit: they are read, not computed. All
others go through arithmetic in single precision, which machines and versions of XLA round in
different orders.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_programs as programs
import numpy as np

import bayesdl as bdl

FILES = Path(__file__).resolve().parent / "files"
SAMPLERS = (bdl.NUTS, bdl.HMC, bdl.MCLMC, bdl.SGLD, bdl.SGHMC, bdl.CyclicalSGMCMC, bdl.PyroNUTS)


@dataclasses.dataclass(frozen=True)
class Case:
    """How a bundle is loaded, and where it predicts.

    Attributes:
        data: a function that returns rows, targets, new rows and their targets.
        code: a function that returns the arguments of `bdl.load` that hold code.
        one: whether the program takes the first column alone, as a vector.
        needs_torch: whether the engine needs torch.
        latents: the sites whose posterior a PFN answers.
    """

    data: Callable[[], tuple]
    code: Callable[[], dict] = dict
    one: bool = False
    needs_torch: bool = False
    latents: tuple[str, ...] = ()

    def rows(self) -> tuple:
        X, y, new, new_y = self.data()
        return (X[:, 0], y, new[:, 0], new_y) if self.one else (X, y, new, new_y)


def line_code() -> dict:
    return {"model": programs.line}


def guide_code() -> dict:
    return {"model": programs.line, "engine": engine_with_guide()}


def engine_with_guide() -> Any:
    guide, objective = programs.line_guide, bdl.vi.iwelbo(K=4)
    return bdl.VI(guide, objective, steps=200, learning_rate=0.05)


def own_pfn() -> Any:
    return bdl.PFN.load(FILES / "pfn-program.pfn", model=programs.normal_mean)


BUNDLES = {
    "bnn-nuts": Case(programs.rows),
    "bnn-hmc": Case(programs.two_targets),
    "bnn-sghmc": Case(programs.rows),
    "bnn-sgld": Case(programs.rows),
    "bnn-cyclical": Case(programs.rows),
    "bnn-mclmc": Case(programs.rows),
    "bnn-laplace": Case(programs.rows),
    "bnn-vi": Case(programs.rows),
    "bnn-vi-flow": Case(programs.rows),
    "bnn-vi-low-rank": Case(programs.counts),
    "bnn-vi-full-rank": Case(programs.rows),
    "bnn-ssvi": Case(programs.rows),
    "bnn-ssvi-bursts": Case(programs.rows),
    "bnn-scale-flow": Case(programs.rows),
    "bnn-spectral": Case(programs.rows),
    "bnn-counts": Case(programs.counts),
    "bnn-classes": Case(programs.table),
    "bnn-equinox": Case(programs.rows, lambda: {"model": programs.equinox_model()}),
    "bnn-pyro": Case(programs.rows, needs_torch=True),
    "conv-vi": Case(programs.images),
    "conv-ssvi": Case(programs.images),
    "gp-exact": Case(programs.rows),
    "gp-sample": Case(lambda: programs.rows(1)),
    "gp-nuts": Case(programs.rows),
    "gp-tinygp": Case(programs.rows, lambda: {"model": programs.tinygp_model()}),
    "gp-gpytorch": Case(programs.rows, needs_torch=True),
    "gp-svgp": Case(programs.rows, needs_torch=True),
    "funbat-messages": Case(programs.indexes),
    "funbat-tucker": Case(programs.indexes),
    "funbat-vi": Case(programs.indexes),
    "program-nuts": Case(programs.rows, line_code, one=True),
    "program-mclmc": Case(programs.rows, line_code, one=True),
    "program-guide": Case(programs.rows, guide_code, one=True),
    "program-estimators": Case(programs.rows, lambda: {"model": programs.slope}, one=True),
    "program-sparse": Case(programs.sparse_rows, lambda: {"model": programs.sparse_logistic}),
    "pfn-program": Case(
        programs.centred_rows,
        lambda: {"model": programs.normal_mean, "engine": own_pfn()},
        latents=("mu",),
    ),
    "pfn-regression": Case(
        programs.rows, lambda: {"engine": bdl.PFN.pretrained("gp-regression")}, latents=("sigma",)
    ),
    "pfn-classification": Case(
        programs.classes, lambda: {"engine": bdl.PFN.pretrained("tabular-classification")}
    ),
}
PFNS = {
    "pfn-program": Case(programs.centred_rows, lambda: {"model": programs.normal_mean}),
    "pfn-mixture": Case(lambda: programs.rows(1)),
    "pfn-cells": Case(programs.classes),
}
SPARSE = {"bnn-ssvi": programs.rows, "conv-ssvi": programs.images, "bnn-ssvi-half": programs.rows}
RECOMMENDERS = (
    *("popularity", "ease", "vae", "vae-vamp", "vae-composite", "vae-features", "dae", "blend"),
    "blend-nested",
)


def answers(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays that a golden file gives, by name."""
    if path.suffix == ".pfn":
        return pfn_answers(path, PFNS[path.stem])
    if path.suffix == ".sparse":
        return sparse_answers(path, SPARSE[path.stem])
    if path.stem.removeprefix("recommend-") in RECOMMENDERS:
        return recommender_answers(path)
    case = BUNDLES[path.stem]
    return posterior_answers(bdl.load(path, **case.code()), case)


def posterior_answers(post: Any, case: Case) -> dict[str, np.ndarray]:
    new, new_y = case.rows()[2:]
    found: dict[str, np.ndarray] = {}
    if isinstance(post.engine, SAMPLERS):
        found |= {f"exact/samples/{name}": value for name, value in post.samples.items()}
    elif post.samples:
        found |= {f"sample/{name}": value[0, :3] for name, value in post.samples.items()}
    found |= prediction_answers(post.predict(new), new_y)
    for site in case.latents:
        latent = bdl.amortized.latent(post, site)
        found |= {f"{site}/mean": latent.mean, f"{site}/quantile": latent.quantile([0.1, 0.9])}
    if isinstance(post.engine, bdl.MessagePassing):
        found |= {f"mode/{name}": value for name, value in mode_answers(post).items()}
    return found


def prediction_answers(prediction: Any, new_y: Any) -> dict[str, np.ndarray]:
    """Return moments and densities of a prediction; quantiles where they are not simulated."""
    found = {"log_prob": prediction.log_prob(new_y)}
    if hasattr(prediction, "probs"):
        found |= {"exact/classes": plain_labels(prediction.classes), "probs": prediction.probs}
        return found | {"aleatoric": prediction.aleatoric, "epistemic": prediction.epistemic}
    found |= {"mean": prediction.mean, "std": prediction.std, "epistemic": prediction.epistemic}
    if np.asarray(new_y).dtype.kind == "f":
        found["quantile"] = prediction.quantile([0.1, 0.9])
    return found


def mode_answers(post: Any) -> dict[str, np.ndarray]:
    function = bdl.tensor.mode(post, "a").predict(np.array([0.1, 0.5]))
    return {"mean": np.asarray(function.mean), "std": np.asarray(function.std)}


def pfn_answers(path: Path, case: Case) -> dict[str, np.ndarray]:
    X, y, new, new_y = case.rows()
    pfn = bdl.PFN.load(path, **case.code())
    post = bdl.fit(pfn.model, X, y, engine=pfn, progress=False)
    return {"exact/hash": np.array(pfn.hash), **prediction_answers(post.predict(new), new_y)}


def sparse_answers(path: Path, data: Callable[[], tuple]) -> dict[str, np.ndarray]:
    found = bdl.sparse.load(path).predict(data()[2], num_samples=20)
    return {f"exact/{name}" if name == "classes" else name: value for name, value in found.items()}


def plain_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels without objects, which would have to be pickled."""
    return np.array(labels.tolist())


def recommender_answers(path: Path) -> dict[str, np.ndarray]:
    model = bdl.recommend.load(path)
    found = model.recommend(programs.new_users(), k=4, seed=3, refine_steps=2 * model.refines)
    parts = ("scores", "probabilities", "lower", "upper")
    arrays = {
        "exact/items": plain_labels(found.items),
        "exact/all items": plain_labels(model.items_),
    }
    arrays["exact/kind of labels"] = np.array(model.items_.dtype.str)
    arrays |= {name: getattr(found, name) for name in parts}
    arrays |= {"temperature": np.array(model.temperature_), "expected hits": found.expected_hits(2)}
    if not isinstance(model, bdl.recommend.Popularity):
        arrays["similar"] = model.similar_items(model.items_[3], k=3)[1]
    return arrays
