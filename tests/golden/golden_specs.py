"""One spec of every class that users make and files may hold, mostly not with the defaults.

What a fit remembers of its data (a `TableFrame` in files) is not made by users: `specs.json` has
some, written when the names inside were those of the files.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpyro.distributions as dist

import bayesdl as bdl
from bayesdl import recommend

# The one place that names the module of these functions, which are not public.
try:
    from bayesdl.saving.serialization import from_data, registry, to_data
except ModuleNotFoundError:  # checkouts that wrote the first files
    from bayesdl.spec import from_data, registry, to_data

__all__ = ["SPECS", "from_data", "in_newest_form", "kinds", "registry", "to_data"]

kernels, priors, vi = bdl.kernels, bdl.priors, bdl.vi
UNREAD = {"formula.Fixed": ("columns",), "formula.Variable": ("typical", "low", "high")}
OBJECTIVES = (
    *("dreg", "elbo", "iwelbo", "renyi", "symmetric_kl", "tempered_elbo", "thermodynamic"),
    *("wake_phi", "wake_theta"),
)


def scale_flow() -> Any:
    return priors.ScaleFlow((0.1, -0.2), (0.3,), (-1.0, 0.2, -0.9), (0.1, 0.0), (0.2, -0.1))


def random_bnn() -> Any:
    return bdl.RandomBNN(
        (1, 2), (4, 8), ("tanh",), (0.1, 0.4), 1.5, dist.Gamma(2.0, 3.0), bdl.StudentT(5.0)
    )


def part(name: str, *fields: Any, **more: Any) -> Any:
    """Make what a fit remembers of its data, whose classes are not public."""
    return registry()[name](*fields, **more)


def encodings() -> tuple:
    categories = part("encoding.Encoding", "category", ("no", "yes"))
    return (part("encoding.Encoding", "number", fill=0.5, gaps=1), categories)


def formula_schema() -> Any:
    """What a fit of a formula remembers, with a term of each kind."""
    numbers = [0.0, 1.0, 2.5, 4.0, 5.0, 6.5, 7.0, 8.0, 9.5, 11.0, 12.0, 13.5]
    table = {
        "y": [x**0.5 for x in numbers],
        "x": numbers,
        "u": [(3 * x) % 7 for x in numbers],
        "w": [1.0 + x / 10 for x in numbers],
        "o": ["low", "high", "mid"] * 4,
        "g": ["a", "b", "c", "d"] * 3,
    }
    import pandas as pd

    frame = pd.DataFrame(table)
    frame["o"] = pd.Categorical(frame["o"], ["low", "mid", "high"], ordered=True)
    text = "y ~ x + mo(o) + s(u, m=5) + gp(x) + offset(w) + (x | g)"
    return bdl.Formula(text, "sigma ~ u").learn_schema(frame)


def frozen_schema() -> Any:
    import sklearn.linear_model

    X = [[0.0, 1.0], [1.0, 0.0], [2.0, 1.5], [3.0, -1.0], [4.0, 0.5], [5.0, 1.0]]
    y = [0.1, 1.2, 1.9, 3.1, 4.2, 4.8]
    line = sklearn.linear_model.LinearRegression().fit(X, y)
    return bdl.Frozen(line).learn_schema(X, y)


def circuit_schema() -> Any:
    import pandas as pd

    frame = pd.DataFrame({"size": [1.0, 2.0, None, 4.0] * 3, "colour": ["red", "blue", None] * 4})
    return bdl.Circuit(states=2).learn_schema(frame)


SPECS: dict[str, Callable[[], Any]] = {
    "Circuit": lambda: bdl.Circuit(
        states=3, trees=2, blocks=(("a", "b"),), kinds={"c": "category"}, of="c", strength=0.3
    ),
    "CircuitSchema": circuit_schema,
    "engines.VBEM": lambda: bdl.VBEM(restarts=3),
    "engines.EM": lambda: bdl.EM(restarts=2),
    "Formula": lambda: bdl.Formula(
        "k | trials(n) ~ x + (1 | g)", likelihood="binomial", priors={"x": dist.Normal(0.0, 2.0)}
    ),
    "formula.Schema, limits of smooths": formula_schema,
    "Frozen": lambda: bdl.Frozen(head="dirichlet", features="prediction"),
    "FrozenSchema": frozen_schema,
    "LastLayer": lambda: bdl.LastLayer(likelihood=bdl.StudentT(), scale=0.5),
    "Table": lambda: bdl.Table(bdl.Categorical(), hidden=(8, 4), standardize=False),
    "engines.Stacking": lambda: bdl.Stacking(num_draws=50),
    "BNN": lambda: bdl.BNN(
        (4, 3), "relu", priors.Laplace(0.5), bdl.StudentT(), "standard", standardize=False
    ),
    "BNN of a ConvNet": lambda: bdl.BNN(network=bdl.ConvNet((8, 8, 3), (2,), "tanh", True)),
    "GP": lambda: bdl.GP(kernels.RBF(0.5) * kernels.Periodic(2.0), bdl.Normal(0.1), False),
    "GP of counts": lambda: bdl.GP(kernels.RBF(0.5), bdl.NegativeBinomial(3.0), False),
    "ConvNet": lambda: bdl.ConvNet((8, 8), (2, 4), "gelu", True),
    "FunBaT": lambda: bdl.FunBaT(("a", bdl.Mode("b", rank=3)), "tucker", bdl.Poisson(), False),
    "StudentTProcess": lambda: bdl.StudentTProcess(
        kernels.RBF(0.5), bdl.Normal(0.1), dist.HalfCauchy(2.0), False
    ),
    "Mode": lambda: bdl.Mode("day", kernels.Matern52(lengthscale=2.0) + kernels.Constant(1.0), 3),
    "RandomBNN": random_bnn,
    "RandomTable": lambda: bdl.RandomTable(
        ("linear", "trees"), (0.3, 0.7), label_noise=0.1, sharpness=(1.0, 0.5)
    ),
    "PriorMixture": lambda: bdl.PriorMixture((bdl.GP(), bdl.BNN()), (0.7, 0.3)),
    "engines.NUTS": lambda: bdl.NUTS(10, 20, 3, 2, "sequential", 0.9, True, "mode", 7),
    "engines.HMC": lambda: bdl.HMC(10, 20, 3, num_steps=9),
    "engines.Gibbs": lambda: bdl.Gibbs(
        num_warmup=10, num_samples=20, num_chains=3, random_walk=True, largest=50
    ),
    "engines.MCLMC": lambda: bdl.MCLMC(10, 20, 3, adjusted=True),
    "engines.SGLD": lambda: bdl.SGLD(
        10, 20, 3, batch_size=8, step_size=0.01, control_variates=True
    ),
    "engines.SGHMC": lambda: bdl.SGHMC(10, 20, 3, friction=2.0, temperature=0.5, start="prior"),
    "engines.CyclicalSGMCMC": lambda: bdl.CyclicalSGMCMC(10, 20, 3, num_cycles=4, exploration=0.3),
    "engines.VI": lambda: bdl.VI(
        "low-rank", "iwelbo", 99, None, 0.1, 2, None, {"z": vi.MVD()}, 50, 3
    ),
    "engines.Laplace": lambda: bdl.Laplace(max_steps=50, num_rounds=3, num_draws=7, tolerance=0.1),
    "engines.SSVI": lambda: bdl.SSVI(
        0.2, "erk", "block:4", True, "evidence", "random", kernel="neurons"
    ),
    "engines.ExactGP": lambda: bdl.ExactGP("sample", 5, bdl.NUTS(10, 20)),
    "engines.SparseGP": lambda: bdl.SparseGP(50, 1000, 40, 3, 20),
    "engines.GPyTorchGP": lambda: bdl.GPyTorchGP("svgp", 10, 2, 0.1, 5, 6),
    "engines.PyroNUTS": lambda: bdl.PyroNUTS(10, 20, 1, 0.9, 6, False),
    "engines.MessagePassing": lambda: bdl.MessagePassing(20, 2, 1e-3, 0.5, 0.1, 4, 0.2, "parallel"),
    "recommend.Anneal": lambda: recommend.Anneal(0.3, 0.5),
    "recommend.PerUser": lambda: recommend.PerUser(0.01),
    "vi.Reparam": lambda: vi.Reparam(stick=True),
    "vi.Implicit": lambda: vi.Implicit(),
    "vi.Reinforce": lambda: vi.Reinforce(),
    "vi.Enum": lambda: vi.Enum(),
    "vi.MVD": lambda: vi.MVD(),
    "priors.Leaf": lambda: priors.WeightArray("layer0.weight", (4, 2), 2, 0, False, 0.5),
    "priors.Bursts": lambda: priors.Bursts(2.0, 0.1, 0.3, 8.0, 5.0, True),
    "priors.ScaleFlow": scale_flow,
    "priors.LayerGaussian": lambda: priors.LayerGaussian((2.2, 1.1), (4.4, 0.3)),
    "priors.LayerHierarchical": lambda: priors.LayerHierarchical((2.0, 5.0), 2.0, 4.0, (1.0, 0.5)),
    "priors.Spectral": lambda: priors.Spectral(kernels.Matern12(lengthscale=0.6, variance=2.0)),
    "priors.Gaussian": lambda: priors.Gaussian((2.0, 0.5), True),
    "priors.Hierarchical": lambda: priors.Hierarchical("inverse_gamma", 1.0, 2.0, 3.0),
    "priors.Horseshoe": lambda: priors.Horseshoe(0.3),
    "priors.Laplace": lambda: priors.Laplace(0.7),
    "priors.StudentT": lambda: priors.StudentT(3.0, 0.5),
    "kernels.RBF": lambda: kernels.RBF((0.5, 2.0), 3.0),
    "kernels.WideNetwork": lambda: bdl.kernels.WideNetwork(3, "relu", (1.4, 1.2, 1.1, 1.0), 0.1),
    "kernels.Matern12": lambda: kernels.Matern12(ard=True),
    "kernels.Matern32": lambda: kernels.Matern32(dist.LogNormal(0.5, 1.0)),
    "kernels.Matern52": lambda: kernels.Matern52(variance=2.0),
    "kernels.Periodic": lambda: kernels.Periodic(12.0, dist.HalfNormal(2.0), 1.0),
    "kernels.Linear": lambda: kernels.Linear(0.5),
    "kernels.Constant": lambda: kernels.Constant(dist.Gamma(2.0, 1.0)),
    "kernels.Sum": lambda: kernels.RBF(0.5) + kernels.Linear() + kernels.Constant(1.0),
    "kernels.FractionalBrownian": lambda: kernels.FractionalBrownian(dist.Beta(2.0, 2.0), 1.5, 0.5),
    "kernels.SpectralMixture": lambda: kernels.SpectralMixture(2, (0.5, 2.0), None, 1.0),
    "kernels.Changepoint": lambda: kernels.Changepoint(
        kernels.RBF(0.5), kernels.Linear(), dist.Normal(0.5, 1.0), 0.1, 1
    ),
    "kernels.Product": lambda: kernels.RBF(0.5) * kernels.Linear(),
    "likelihoods.Normal": lambda: bdl.Normal((0.1, 0.2)),
    "heteroscedastic": lambda: bdl.Normal("heteroscedastic"),
    "likelihoods.StudentT": lambda: bdl.StudentT(4.0, dist.HalfNormal(0.5)),
    "likelihoods.Bernoulli": lambda: bdl.Bernoulli(),
    "likelihoods.Categorical": lambda: bdl.Categorical(),
    "likelihoods.Poisson": lambda: bdl.Poisson(),
    "likelihoods.NegativeBinomial": lambda: bdl.NegativeBinomial(5.0),
    "VI of an objective": lambda: bdl.VI(objective=vi.iwelbo(4), learning_rate=0.01),
    **{
        f"objective {name}": lambda name=name: bdl.VI(objective=name, learning_rate=0.01)
        for name in OBJECTIVES
    },
    **{f"function {name}": lambda name=name: getattr(vi, name) for name in OBJECTIVES},
    "tempered": lambda: vi.tempered_elbo(beta=0.5),
    "reading.Reading": lambda: part(
        "reading.Reading", ("id",), "median", "drop", "other", ("year", "week")
    ),
    "encoding.Encoding": lambda: part(
        "encoding.Encoding",
        "date",
        None,
        2.5,
        None,
        3,
        True,
        origin=19000.5,
        zoned=True,
        periods=("day",),
    ),
    "Encoding of categories": lambda: part(
        "encoding.Encoding", "category", ("no", "yes"), None, "yes", 2, other=True
    ),
    "Columns with one left out": lambda: part(
        "columns.Columns",
        *(("a", "c"), True, encodings(), None, (1.0, 0.0), (2.0, 0.5)),
        *(("a", "constant", "c"), (0, 2)),
    ),
    "a vector of priors": lambda: bdl.BNN(likelihood=bdl.Normal(dist.InverseGamma(3.0, 1.0))),
}


def kinds(data: Any) -> set[str]:
    """Return the names of all classes in the data of specs."""
    if isinstance(data, list):
        return set().union(*map(kinds, data))
    if not isinstance(data, dict):
        return set()
    own = {data["class"]} if "class" in data else set()
    return own.union(*(kinds(value) for value in data.values()))


def in_newest_form(data: Any) -> Any:
    """Return stored data of specs as it is written now, with the same meaning.

    All that is stored stays but what nothing read. A field that came later has its default, and
    the categories of a column are in its encoding.
    """
    if isinstance(data, list):
        return [in_newest_form(entry) for entry in data]
    if not isinstance(data, dict):
        return data
    if data.get("class") == "columns.Columns" and "levels" in data:
        moved = [encoding_data(levels) for levels in data["levels"]]
        data = {name: value for name, value in data.items() if name != "levels"}
        data |= {"encodings": moved}
    unread = UNREAD.get(data.get("class", ""), ())
    data = {name: value for name, value in data.items() if name not in unread}
    data = {name: in_newest_form(value) for name, value in data.items()}
    fields = dataclasses.fields(registry()[data["class"]]) if "class" in data else ()
    later = [f for f in fields if f.name not in data and f.default is not dataclasses.MISSING]
    return data | {field.name: to_data(field.default) for field in later}


def encoding_data(levels: list[str] | None) -> dict[str, Any]:
    kind = "number" if levels is None else "category"
    return {"class": "encoding.Encoding", "kind": kind, "levels": levels}
