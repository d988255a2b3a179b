"""Write the golden files: one saved file of each kind, and the numbers that it gives.

They show that files which users wrote with earlier versions still load and predict the same
(`tests/use/test_golden_files.py`). So a golden file is never written again: a new kind of file, or
a new schema, gets a new name here, and

    python tests/golden/write_files.py [NAME ...]

writes the files that are absent (all of them, or those named), next to each an `.npz` with its
answers after loading, and adds the specs that `specs.json` lacks. Fits are tiny, as only the format
matters.
"""

import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_answers
import golden_programs as programs
import golden_specs
import numpy as np
import numpyro.distributions as dist

import bayesdl as bdl
from bayesdl import kernels, priors

FILES = golden_answers.FILES
SHORT = {"num_warmup": 60, "num_samples": 10, "num_chains": 2}
STOCHASTIC = {
    "num_warmup": 200,
    "num_samples": 10,
    "num_chains": 2,
    "thinning": 10,
    "batch_size": 6,
}
SPARSE = {"density": 0.5, "steps": 120, "every": 20, "kernel": "transient", "num_samples": 20}
AUTOENCODER = {"hidden": (5,), "latent": 2, "epochs": 6, "batch_size": 30, "progress": False}
PFN = {
    "steps": 50,
    "max_rows": 18,
    "width": 8,
    "layers": 1,
    "heads": 2,
    "hidden": 8,
    "frequencies": 2,
    "bars": 30,
}


def bnn(**settings: Any) -> bdl.BNN:
    return bdl.BNN(**{"hidden": (3,), **settings})


def inverse_gammas() -> priors.Hierarchical:
    return priors.Hierarchical("inverse_gamma", concentration=2.0)


def per_layer() -> priors.LayerGaussian:
    return priors.LayerGaussian((2.0, 0.5), (1.0, 0.3))


def sums() -> Any:
    return kernels.RBF(ard=True) * kernels.Linear() + kernels.Constant(0.5)


def modes(rank: int = 1) -> tuple:
    second = kernels.Matern12(lengthscale=0.4) + kernels.Constant(1.0)
    return (bdl.Mode("a", kernels.Matern32(), rank), bdl.Mode("b", second, rank))


# name -> (model, engine)
FITS: dict[str, Callable[[], tuple]] = {
    "bnn-nuts": lambda: (bnn(), bdl.NUTS(**SHORT)),
    "bnn-hmc": lambda: (bnn(prior=priors.StudentT(3.0)), bdl.HMC(**SHORT, num_steps=8)),
    "bnn-sghmc": lambda: (bnn(prior=inverse_gammas()), bdl.SGHMC(**STOCHASTIC)),
    "bnn-sgld": lambda: (bnn(prior=priors.Horseshoe(0.5)), bdl.SGLD(**STOCHASTIC)),
    "bnn-cyclical": lambda: (
        bnn(prior=priors.LayerHierarchical(3.0, (2.0, 1.0))),
        bdl.CyclicalSGMCMC(**STOCHASTIC, num_cycles=5),
    ),
    "bnn-mclmc": lambda: (bnn(activation="relu"), bdl.MCLMC(**SHORT)),
    "bnn-laplace": lambda: (bnn(likelihood=bdl.Normal(dist.LogNormal(-1.0, 0.5))), bdl.Laplace()),
    "bnn-vi": lambda: (bnn(prior=per_layer()), bdl.VI(steps=200, batch_size=9)),
    "bnn-vi-flow": lambda: (bnn(hidden=()), bdl.VI(guide="flow", steps=100)),
    "bnn-vi-low-rank": lambda: (
        bnn(likelihood=bdl.NegativeBinomial()),
        bdl.VI("low-rank", bdl.vi.renyi(0.5, 3), steps=100, rank=2),
    ),
    "bnn-vi-full-rank": lambda: (
        bnn(likelihood=bdl.StudentT(df=4.0)),
        bdl.VI("full-rank", bdl.vi.elbo, steps=100, num_particles=2),
    ),
    "bnn-ssvi": lambda: (bnn(hidden=(6,)), bdl.SSVI(**SPARSE)),
    "bnn-ssvi-bursts": lambda: (
        bnn(hidden=(6,), prior=priors.Bursts(share=0.3)),
        bdl.SSVI(**SPARSE, removal="support", biases="normal"),
    ),
    "bnn-scale-flow": lambda: (bnn(prior=priors.ScaleFlow()), bdl.NUTS(**SHORT)),
    "bnn-spectral": lambda: (
        bnn(
            hidden=(4,), activation="sine", prior=priors.Spectral(kernels.Matern32(lengthscale=0.6))
        ),
        bdl.VI(steps=100),
    ),
    "bnn-counts": lambda: (bnn(likelihood=bdl.Poisson()), bdl.NUTS(**SHORT)),
    "bnn-classes": lambda: (
        bnn(likelihood=bdl.Bernoulli(), prior=priors.Laplace(0.7)),
        bdl.NUTS(**SHORT),
    ),
    "bnn-equinox": lambda: (programs.equinox_model(), bdl.VI(steps=100)),
    "bnn-pyro": lambda: (
        bnn(likelihood=bdl.Normal("heteroscedastic")),
        bdl.PyroNUTS(num_warmup=20, num_samples=5, num_chains=2, compiled=False),
    ),
    "conv-vi": lambda: (conv(), bdl.VI(steps=60)),
    "conv-ssvi": lambda: (conv(residual=True), bdl.SSVI(**SPARSE)),
    "gp-exact": lambda: (bdl.GP(sums()), bdl.ExactGP("map")),
    "gp-sample": lambda: (
        bdl.GP(kernels.Periodic(period=dist.LogNormal(0.0, 0.3))),
        bdl.ExactGP("sample", sampler=bdl.NUTS(**SHORT)),
    ),
    "gp-nuts": lambda: (bdl.GP(kernels.Matern52(), bdl.Normal(0.3)), bdl.NUTS(**SHORT)),
    "gp-tinygp": lambda: (programs.tinygp_model(), bdl.ExactGP()),
    "gp-gpytorch": lambda: (bdl.GP(kernels.Matern12() + kernels.Linear()), bdl.GPyTorchGP()),
    "gp-svgp": lambda: (
        bdl.GP(),
        bdl.GPyTorchGP("svgp", num_steps=50, num_inducing=6, batch_size=9),
    ),
    "funbat-messages": lambda: (
        bdl.FunBaT(modes(2)),
        bdl.MessagePassing(iterations=60, restarts=2),
    ),
    "funbat-tucker": lambda: (
        bdl.FunBaT(modes(), "tucker", bdl.StudentT(df=5.0), relevance=False),
        bdl.MessagePassing(iterations=60, restarts=2),
    ),
    "funbat-vi": lambda: (bdl.FunBaT(("a", "b")), bdl.VI(steps=100)),
    "program-nuts": lambda: (programs.line, bdl.NUTS(**SHORT, dense_mass=True)),
    "program-mclmc": lambda: (programs.line, bdl.MCLMC(**SHORT, adjusted=True)),
    "program-guide": lambda: (programs.line, golden_answers.engine_with_guide()),
    "program-estimators": lambda: (programs.slope, engine_with_estimators()),
    "program-sparse": lambda: (programs.sparse_logistic, bdl.NUTS(**SHORT)),
    "pfn-program": lambda: (programs.normal_mean, golden_answers.own_pfn()),
    "pfn-regression": lambda: load_pretrained("gp-regression"),
    "pfn-classification": lambda: load_pretrained("tabular-classification"),
}


def conv(residual: bool = False) -> bdl.BNN:
    network = bdl.ConvNet(image=(4, 4), channels=(2,), residual=residual)
    return bdl.BNN(network=network, likelihood=bdl.Categorical(), standardize=False)


def engine_with_estimators() -> bdl.VI:
    estimators = {"_auto_latent": bdl.vi.Reinforce()}
    return bdl.VI(objective="elbo", steps=100, num_particles=4, estimators=estimators)


def load_pretrained(name: str) -> tuple:
    pfn = bdl.PFN.pretrained(name)
    return pfn.model, pfn


def train(model: Any, **settings: Any) -> bdl.PFN:
    return bdl.PFN.train(model, bdl.amortized.Training(**settings), progress=False)


TRAININGS: dict[str, Callable[[], Any]] = {
    "pfn-program": lambda: train(programs.normal_mean, **PFN, latents="mu"),
    "pfn-mixture": lambda: train(
        bdl.PriorMixture((bdl.GP(), bnn()), (0.7, 0.3)), **PFN, normalize=True
    ),
    "pfn-cells": lambda: train(
        bdl.RandomBNN(likelihood=bdl.Categorical(), fewer_classes=True, width=(2, 4)),
        **PFN,
        kind="cells",
        num_inputs=2,
        num_classes=3,
    ),
}


def names() -> np.ndarray:
    return np.array([f"film {i}" for i in range(programs.ITEMS)])


def ease(l2: float = 5.0) -> Any:
    return bdl.recommend.EASE(l2=l2)


def vae(**settings: Any) -> Any:
    return bdl.recommend.MultVAE(**AUTOENCODER | settings)


def fit_users(model: Any, validation: bool = True, **more: Any) -> Any:
    held = (programs.validation(),) if validation else ()
    return model.fit(programs.users(), *held, **more)


RECOMMENDERS: dict[str, Callable[[], Any]] = {
    "popularity": lambda: fit_users(bdl.recommend.Popularity()),
    "ease": lambda: fit_users(ease(), items=names()),
    "vae": lambda: fit_users(vae(), items=names().astype(object)),
    "vae-vamp": lambda: fit_users(vae(prior="vamp", beta=bdl.recommend.Anneal(cap=0.3)), False),
    "vae-composite": lambda: fit_users(
        vae(prior="composite", beta=bdl.recommend.PerUser(0.01), item_block=6), False
    ),
    "vae-features": lambda: fit_users(vae(beta=0.5), False, item_features=programs.features()),
    "dae": lambda: fit_users(
        bdl.recommend.MultDAE(**AUTOENCODER | {"hidden": ()}),
        items=np.arange(programs.ITEMS, dtype=np.int32) + 7,
    ),
    "blend": lambda: fit_users(
        bdl.recommend.Blend([ease(), vae(), bdl.recommend.Popularity()]), items=names()
    ),
    "blend-nested": lambda: fit_users(
        bdl.recommend.Blend(
            [bdl.recommend.Blend([bdl.recommend.Popularity(), ease()], (1.0, 2.0)), ease(9.0)],
            (1.0, 1.0),
        ),
        False,
    ),
}


def fit_and_save(name: str, path: Path) -> None:
    model, engine = FITS[name]()
    case = golden_answers.BUNDLES[name]
    X, y, *_ = case.rows()
    targets = {"y": y} if callable(model) and not isinstance(model, bdl.BNN) else {}
    given = (X,) if targets else (X, y)
    bdl.fit(model, *given, engine=engine, seed=1, progress=False, **targets).save(path)


def export(name: str, path: Path) -> None:
    half = name.endswith("-half")
    bdl.sparse.export(bdl.load(FILES / f"{name.removesuffix('-half')}.bdl"), path, bfloat16=half)


def collect_writers() -> dict[str, Callable[[Path], Any]]:
    """Collect the functions that write each file; files that others need come first."""
    found: dict[str, Callable[[Path], Any]] = {}
    for name, train in TRAININGS.items():
        found[f"{name}.pfn"] = lambda path, train=train: train().save(path)
    for name in FITS:
        found[f"{name}.bdl"] = lambda path, name=name: fit_and_save(name, path)
    for name in golden_answers.SPARSE:
        found[f"{name}.sparse"] = lambda path, name=name: export(name, path)
    for name, make in RECOMMENDERS.items():
        found[f"recommend-{name}.bdl"] = lambda path, make=make: make().save(path)
    return found


def write(name: str, make: Callable[[Path], Any]) -> None:
    """Write a file and its answers, or neither."""
    path, started = FILES / name, time.perf_counter()
    try:
        make(path)
        np.savez_compressed(f"{path}.npz", **golden_answers.answers(path))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    print(
        f"{name:<28}{path.stat().st_size:>8} bytes {time.perf_counter() - started:6.1f} s",
        flush=True,
    )


def write_checkpoint(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(temporary) / "run"
        samples = programs.fit_with_checkpoint(kept).samples
        shutil.copytree(kept, folder)
    np.savez_compressed(f"{folder}.npz", **samples)


def write_specs(path: Path) -> None:
    """Add to `specs.json` the specs that it lacks."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    new = {
        name: golden_specs.to_data(make())
        for name, make in golden_specs.SPECS.items()
        if name not in stored
    }
    if new:
        path.write_text(json.dumps(stored | new, indent=1) + "\n")


def main() -> None:
    FILES.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains and trainings that are too short
        for name, make in collect_writers().items():
            if not (FILES / name).exists() and (len(sys.argv) < 2 or name in sys.argv[1:]):
                write(name, make)
        if not (FILES / "checkpoint").exists():
            write_checkpoint(FILES / "checkpoint")
        write_specs(FILES / "specs.json")


if __name__ == "__main__":
    main()
