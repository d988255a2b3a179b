"""The reference of all public names, in nine groups."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import bayesdl

# A group: its title, a sentence, names of `bayesdl`, and namespaces whose names all belong to it.
GROUPS: dict[str, tuple[str, str, list[str], list[str]]] = {
    "fit": (
        "Fit and posterior",
        "One verb fits every model with every engine; what it gives back predicts, is diagnosed, "
        "scored and saved.",
        ["fit", "load", "predict_file", "report", "Posterior"],
        [],
    ),
    "models": (
        "Models",
        "What is believed, as frozen dataclasses of plain data.",
        list(bayesdl.models.__all__),
        [],
    ),
    "likelihoods": (
        "Likelihoods",
        "The distribution of targets around what a model says.",
        ["Normal", "StudentT", "Bernoulli", "Categorical", "Poisson", "NegativeBinomial"],
        [],
    ),
    "priors": (
        "Priors",
        "Priors of weights, and priors matched to functions.",
        ["match_prior", "prior_report", "prior_predictive"],
        ["priors"],
    ),
    "kernels": ("Kernels", "Covariance functions of Gaussian processes.", [], ["kernels"]),
    "engines": (
        "Engines",
        "How a posterior is computed. Which engine runs which model stands in "
        "[a table](../engines.md).",
        list(bayesdl.engines.__all__),
        ["mcmc", "vi"],
    ),
    "checks": (
        "Checks, effects and errors",
        "Whether a fit can be trusted, what it makes of its inputs, and what is raised.",
        [
            *("compare", "sbc", "DataError", "ModelError", "UnsupportedError", "BundleError"),
            *("CheckpointError", "PriorMismatch"),
        ],
        ["effects"],
    ),
    "plots": ("Plots", "Pictures of posteriors and predictions.", [], ["plots"]),
    "families": (
        "Amortized, sparse, tensors, recommenders, scikit-learn",
        "What belongs to one family of models.",
        ["PFN"],
        ["amortized", "sparse", "tensor", "recommend", "sklearn"],
    ),
}
MEMBERS = ("Posterior", "PFN")


def names(group: str) -> list[str]:
    """List the names of a group, as `bayesdl.NAME` or `bayesdl.NAMESPACE.NAME`."""
    _, _, own, spaces = GROUPS[group]
    found = [f"bayesdl.{name}" for name in own]
    for space in spaces:
        module = importlib.import_module(f"bayesdl.{space}")
        found += [f"bayesdl.{space}.{name}" for name in listed(module)]
    # a name that two namespaces have stands where it comes first
    return [name for name in found if name.split(".")[-1] not in repeated(name, found)]


def listed(module: object) -> list[str]:
    """List the public names of a namespace."""
    own = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__  # type: ignore[attr-defined]
        and not name.startswith(("Abstract", "_"))
    ]
    return list(getattr(module, "__all__", own))


def repeated(name: str, found: list[str]) -> set[str]:
    """Return the last part of a name that the root of the package has too."""
    last = name.split(".")[-1]
    root = name.count(".") == 1
    same = not root and getattr(bayesdl, last, None) is resolve(name)
    return {last} if same and (f"bayesdl.{last}" in found or last in bayesdl.__all__) else set()


def resolve(name: str) -> object:
    """Return the object of a public name."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def write(folder: Path) -> None:
    """Write the pages of all groups, and of each name."""
    from site_pages import prune
    from site_pages import write as write_page

    prune(folder / "names", {f"{name}.rst" for group in GROUPS for name in names(group)})
    index = ["# API\n", "| group | what is in it |", "| --- | --- |"]
    toctree = ["", "```{toctree}", ":hidden:", ""]
    for group, (title, about, _, _) in GROUPS.items():
        index.append(f"| [{title}]({group}.md) | {about} |")
        toctree.append(group)
        write_page(folder / f"{group}.md", page(group))
        for name in names(group):
            write_page(folder / "names" / f"{name}.rst", name_page(name))
    write_page(folder / "index.md", "\n".join([*index, *toctree, "```", ""]))


def page(group: str) -> str:
    """Return the page of a group: a table of its names, each with a sentence."""
    title, about, _, _ = GROUPS[group]
    rows = ["| name | |", "| --- | --- |"]
    tree = ["", "```{toctree}", ":hidden:", ""]
    for name in names(group):
        shown = name.removeprefix("bayesdl.")
        rows.append(f"| [{shown}](names/{name}.rst) | {first_sentence(name)} |")
        tree.append(f"{shown} <names/{name}>")
    return "\n".join([f"# {title}", "", about, "", *rows, *tree, "```", ""])


def first_sentence(name: str) -> str:
    """Return the first line of a docstring, safe in a Markdown table."""
    doc = (inspect.getdoc(resolve(name)) or "").split("\n\n")[0].replace("\n", " ")
    for character in "|*_<":
        doc = doc.replace(character, "\\" + character) if "`" not in doc else doc
    return doc.replace("|", "\\|") if "`" in doc and "\\|" not in doc else doc


def name_page(name: str) -> str:
    """Return the page of one name."""
    module, _, last = name.rpartition(".")
    value = resolve(name)
    short = name.removeprefix("bayesdl.")
    kind = "class" if inspect.isclass(value) else "function"
    if kind == "class" and issubclass(value, BaseException):  # type: ignore[arg-type]
        kind = "exception"
    directive = f".. auto{kind}:: {module}.{last}"
    options = ["   :members:"] if last in MEMBERS else []
    # the module's own name would be that of the file where the object is defined
    return "\n".join([short, "=" * len(short), "", directive, *options, ""])
