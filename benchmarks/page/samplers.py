"""Sections on the cost of computation: samplers, gradients, overhead, imports."""

from __future__ import annotations

import numpy as np

from benchmarks.page.tables import Section, mean_and_error, read


def sections() -> list[Section]:
    """Make the sections, in their order."""
    return [
        samplers(),
        variational(),
        overhead(),
        programs(),
        enumeration(),
        groups(),
        imports(),
    ]


def samplers() -> Section:
    """Compare samplers with NumPyro and BlackJAX."""
    section = Section(
        "Sampling",
        "python -m benchmarks.sgmcmc",
        "Effective draws in a CPU second on a linear regression (higher is better), 500 + 500 "
        "draws, four chains. NumPyro compiles again at each run; bayesdl and BlackJAX do not, so "
        "the rows without compilation are what a second fit costs.",
    )
    names = ("bayesdl", "numpyro parallel", "numpyro vectorized", "blackjax")
    rows = []
    for sampler, found in read("sgmcmc")["results"].items():
        if "bayesdl" in found:
            for key, about in (
                ("ess_per_cpu_s_with_compilation", "with compilation"),
                ("ess_per_cpu_s", "without"),
            ):
                cells = [float(found[name][key]) for name in names]
                rows.append([f"{sampler.split(',')[0]}, {about}", *cells])
    section.table(["", *names], rows, best="highest", ours=(1,), form=".0f")
    return section


def variational() -> Section:
    """Compare the gradients of objectives with code written by hand and NumPyro's."""
    section = Section(
        "Variational inference",
        "python -m benchmarks.vi",
        "The gradient of a variational autoencoder: milliseconds of CPU time, and seconds of "
        "compilation (lower is better).",
    )
    names = ("bayesdl", "by hand", "numpyro")
    rows = []
    for objective in ("ELBO", "IWELBO(5)"):
        found = read("vi")["results"][objective]
        for key, about in (("ms", "ms a gradient"), ("compile_s", "s of compilation")):
            cells = [float(found[n][key]) if n in found else None for n in names]
            rows.append([f"{objective}, {about}", *cells])
    section.table(["", "bayesdl", "JAX by hand", "NumPyro"], rows, best="lowest", ours=(1,))
    return section


def overhead() -> Section:
    """Show what `fit` adds to NumPyro's own sampler."""
    found = read("overhead")
    rows = found["rows"]
    section = Section(
        "What `fit` adds to NumPyro",
        "python -m benchmarks.overhead",
        "The same program with the same settings: time of `bdl.fit` over that of NumPyro's `MCMC`, "
        "compilation included (below 1 is faster).",
    )
    times = [[f"run {i}", float(row["cpu_ratio"]), row["same_draws"]] for i, row in enumerate(rows)]
    section.table(["", "ratio of CPU times", "same draws"], times)
    return section


def programs() -> Section:
    """Show what `fit` costs beside NumPyro on five programs."""
    section = Section(
        "NumPyro programs through `fit`",
        "python -m benchmarks.program_overhead",
        "Time of `bdl.fit` with NUTS over that of NumPyro's `MCMC`, compilation and checks "
        "of the data included; CPU seconds, 1,000 + 1,000 draws, four chains, three runs of each.",
    )
    found = read("program_overhead")["programs"]
    rows = []
    for name, runs in found.items():
        seconds = [
            mean_and_error([row[who] for row in runs["rows"]]) for who in ("ours", "numpyro")
        ]
        rows.append([name, *seconds])
    section.table(["program", "bayesdl", "NumPyro"], rows, best="lowest", ours=(1,), form=".1f")
    ratios = [[name, float(runs["median ratio"])] for name, runs in found.items()]
    section.table(["program", "median ratio"], ratios)
    return section


def enumeration() -> Section:
    """Compare the gradient of summed-out sites with NumPyro's."""
    section = Section(
        "Discrete sites that are summed out",
        "python -m benchmarks.enumeration",
        "Milliseconds of a gradient of the summed log density (lower is better), the fastest of "
        "200 repeats; the median ratio is bayesdl's time over NumPyro's.",
    )
    ours, theirs = "gradient, milliseconds", "gradient, milliseconds of NumPyro"
    cases = read("enumeration")["cases"]
    rows = [[name, float(found[ours]), float(found[theirs])] for name, found in cases.items()]
    section.table(["program", "bayesdl", "NumPyro"], rows, best="lowest", ours=(1,))
    ratios = [[name, float(found["gradient, median ratio"])] for name, found in cases.items()]
    section.table(["program", "median ratio"], ratios)
    return section


def groups() -> Section:
    """Show the coverage of predictions for groups that training had not."""
    found = read("new_groups")["coverage"]
    section = Section(
        "Groups that the training rows had not",
        "python -m benchmarks.new_groups",
        f"Coverage of 90 % intervals for rows of new groups, over {found['simulations']} simulated "
        "data sets.",
    )
    coverage = (found["coverage of 90 % intervals"], found["its standard error"])
    section.table(["", "coverage"], [["new rows", coverage]])
    return section


def imports() -> Section:
    """Show the time of an import over that of NumPyro's."""
    stored = read("import_time")
    names = [name for name in stored if isinstance(stored[name], dict) and "cpu_s" in stored[name]]
    first = np.asarray(stored[names[0]]["cpu_s"])
    section = Section(
        "Imports",
        "python -m benchmarks.import_time",
        f"CPU time over that of `import numpyro`, medians of {len(first)} runs (below 1 is "
        "quicker).",
    )
    rows = [[name, float(stored[name]["median_ratio"])] for name in names]
    section.table(["", "ratio"], rows, form=".2f")
    return section
