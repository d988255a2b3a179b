"""To ArviZ and xarray; the only file that knows ArviZ versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bayesdl.interop.pareto import smoothed_weights
from bayesdl.model.names import Dimensions, Names, entry_labels, site_dims
from bayesdl.posterior.adjustment import plain
from bayesdl.posterior.core import AbstractPosterior, draws_shape, site_prediction
from bayesdl.typing import DataFrame
from inference.core.program import signature_of
from inference.process.quiet import quiet, quiet_logger
from inference.wrappers import has_mask

if TYPE_CHECKING:
    import xarray as xr

SAMPLE_DIMS = ("chain", "draw")
# the level of all intervals that are not asked for by level
INTERVAL = 0.9


def to_datatree(
    posterior: AbstractPosterior,
    log_likelihood: bool = False,
    log_prior: bool = False,
    posterior_predictive: bool = False,
) -> xr.DataTree:
    """Return groups posterior, sample_stats, observed_data and constant_data, and those asked for.

    Raises:
        ValueError: for a predictor, which has no draws.
    """
    if not posterior.samples:
        raise ValueError(
            f"{posterior!r} has no draws of parameters: it predicts in closed form. Use predict."
        )
    groups: dict[str, Any] = {"posterior": posterior.samples} | posterior.raw.groups()
    arrays = _named_arrays(posterior)
    observed = {name: arrays.pop(name) for name in posterior.problem.observed if name in arrays}
    known = posterior.model.observed_values(posterior.schema, posterior.problem)
    if known is None and _may_hide(posterior):
        from bayesdl.checks import densities

        known = densities.with_gaps(posterior)
    observed = observed if known is None else known
    groups |= {"observed_data": observed} if observed else {}
    groups |= {"constant_data": arrays} if arrays else {}
    if log_likelihood or log_prior or posterior_predictive:
        groups |= _computed(posterior, log_likelihood, log_prior, posterior_predictive)
    return named_tree(groups, site_dims(posterior.problem, posterior.names), posterior.names)


def tree_of(groups: dict[str, dict[str, np.ndarray]]) -> xr.DataTree:
    """Return arrays by group and name, of shape (chain, draw, ...), as a DataTree."""
    import arviz_base

    return arviz_base.from_dict(groups)


def named_tree(
    groups: dict[str, dict[str, np.ndarray]], dims: Dimensions, names: Names
) -> xr.DataTree:
    """Return arrays by group and site as a DataTree, with named dimensions and labels.

    xarray keeps some names for itself. A "/" becomes ".", and a site or a dimension that bears the
    name of another one, or of the axes "chain" and "draw", gets a "_" at its end.

    Args:
        groups: arrays by group and name, of shape (chain, draw, ...) outside the groups of data.
        dims: the names of the axes of sites.
        names: the labels along dimensions.
    """
    import arviz_base
    import xarray as xr

    taken: dict[str, str] = {axis: axis for axis in SAMPLE_DIMS}
    sites = [site for arrays in groups.values() for site in arrays]
    legal = {site: _legal(site, taken) for site in dict.fromkeys(sites)}
    axes = {
        dim: _legal(dim, taken) for dim in dict.fromkeys(d for one in dims.values() for d in one)
    }
    datasets = {}
    for group, arrays in groups.items():
        lead = 0 if "data" in group else len(SAMPLE_DIMS)
        named: Dimensions = {}
        sizes: dict[str, int] = {}
        for site, values in arrays.items():
            shape, along = np.shape(values)[lead:], [axes[dim] for dim in dims.get(site, ())]
            fits = len(along) == len(shape) and all(
                sizes.setdefault(dim, size) == size for dim, size in zip(along, shape, strict=True)
            )
            own = [f"{legal[site]}_dim_{i}" for i in range(len(shape))]
            named[legal[site]] = tuple(along if fits else own)
        labels: dict[Any, Any] = {
            axes[dim]: list(labels)
            for dim, labels in names.coords.items()
            if sizes.get(axes.get(dim, "")) == len(labels)
        }
        datasets[group] = arviz_base.dict_to_dataset(
            {legal[site]: np.asarray(values) for site, values in arrays.items()},
            dims={site: list(along) for site, along in named.items()},
            coords=labels,
            sample_dims=list(SAMPLE_DIMS) if lead else [],
        )
    return xr.DataTree.from_dict(datasets)


def _legal(name: str, taken: dict[str, str]) -> str:
    """Return the name as xarray can hold it, and different from those taken, and take it."""
    legal = name.replace("/", ".")
    while legal in taken:
        legal += "_"
    taken[legal] = name
    return legal


def _computed(
    posterior: AbstractPosterior, log_likelihood: bool, log_prior: bool, posterior_predictive: bool
) -> dict[str, Any]:
    """Compute groups that take a pass over the draws."""
    from bayesdl.checks import densities

    groups: dict[str, Any] = {"observed_data": densities.with_gaps(posterior)}
    groups |= {"log_likelihood": densities.pointwise(posterior)} if log_likelihood else {}
    groups |= {"log_prior": densities.log_prior(posterior)} if log_prior else {}
    if posterior_predictive:
        shape = draws_shape(posterior)
        groups["posterior_predictive"] = {
            name: values.reshape(*shape, *values.shape[1:])
            for name, values in _replicated(posterior).items()
        }
    return groups


def _replicated(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Simulate a data set for each draw, of all observed sites."""
    from bayesdl.checks import densities

    if posterior.model.predicts_one(posterior.problem):
        prediction = plain(posterior).predict()
        return {prediction.target.names[0]: prediction.replicates()}
    return densities.simulate_data_sets(
        posterior, int(np.prod(draws_shape(posterior))), posterior.seed, False
    )


def _may_hide(posterior: AbstractPosterior) -> bool:
    """Return whether a mask may hide observed values."""
    trace = posterior.problem.trace
    return any(has_mask(trace[name]["fn"]) for name in posterior.problem.observed)


def psis_loo(blocks: Iterable[np.ndarray], efficiency: float) -> Any:
    """Compute arviz-stats' leave-one-out of blocks of rows, as one ELPDData without its weights.

    Rows whose log densities are not finite have elpd_i = -log mean(1 / p), which is -inf where
    some p is 0 and NaN where one is.

    Args:
        blocks: log densities of shape (chain, draw, rows).
        efficiency: effective draws over draws.
    """
    import xarray as xr

    # large k and weights that overflow: the caller judges k
    with quiet():
        parts = [_loo_of_block(block, efficiency) for block in blocks]
        terms, k = (
            np.concatenate([getattr(part, name).values for part in parts])
            for name in ("elpd_i", "pareto_k")
        )
        return dataclasses.replace(
            parts[0],
            elpd=float(terms.sum()),
            se=float(np.sqrt(terms.size * terms.var())),
            p=float(sum(part.p for part in parts)),
            n_data_points=terms.size,
            warning=any(part.warning for part in parts),
            good_k=float(parts[0].good_k),
            elpd_i=xr.DataArray(terms, dims="row"),
            pareto_k=xr.DataArray(k, dims="row"),
        )


def _loo_of_block(block: np.ndarray, efficiency: float) -> Any:
    """Compute arviz-stats' leave-one-out of one block, shape (chain, draw, rows)."""
    import arviz_base
    import xarray as xr
    from arviz_stats.loo import loo
    from scipy.special import logsumexp

    flat = block.reshape(-1, block.shape[-1]).T
    weights, k = smoothed_weights(-flat, efficiency)
    tree = arviz_base.from_dict({"log_likelihood": {"y": block}})
    like: Any = tree["log_likelihood/y"]
    part: Any = loo(
        tree,
        pointwise=True,
        reff=efficiency,
        log_weights=like.copy(data=weights.T.reshape(block.shape)),
        pareto_k=xr.DataArray(k, dims=like.dims[2:], coords={d: like[d] for d in like.dims[2:]}),
    )
    terms = part.elpd_i.values.copy()
    bad = ~np.isfinite(flat).all(axis=1)
    terms[bad] = np.log(flat.shape[1]) - logsumexp(-flat[bad], axis=1)
    return dataclasses.replace(part, log_weights=None, elpd_i=part.elpd_i.copy(data=terms))


def compare(elpds: Mapping[str, object], method: str) -> DataFrame:
    """Return arviz-stats' table of models, best first."""
    from arviz_stats.loo import compare as table

    # arviz-stats' use of pandas
    with quiet(DeprecationWarning):
        return table(elpds, method=method)


def psense(parameters: dict, log_prior: dict, log_likelihood: dict, threshold: float) -> DataFrame:
    """Return arviz-stats' power-scaling sensitivities and diagnosis, a row per scalar."""
    import arviz_base
    from arviz_stats.psense import psense_summary

    groups = {"log_prior": log_prior, "log_likelihood": log_likelihood}
    apart = {name: {"sum": _without_ties(terms)} for name, terms in groups.items()}
    # names that any version of xarray can hold
    numbered = dict(zip(_numbered(parameters), parameters.values(), strict=True))
    tree = arviz_base.from_dict({"posterior": numbered} | apart)
    # what it says is said by the verdict
    with quiet_logger("arviz_stats.psense"):
        return _with_sites(psense_summary(tree, threshold=threshold, round_to=6), parameters)


def _without_ties(terms: dict) -> np.ndarray:
    """Sum the terms of each draw; where many sums are equal, tell them apart by next to nothing.

    arviz-stats fits the tail of the sums, which must not be one number: that of a flat prior, or of
    a chain that is stuck.
    """
    total = np.sum([np.asarray(value, np.float64) for value in terms.values()], axis=0)
    if len(np.unique(total)) > 0.9 * total.size:
        return total
    scale = 1e-9 * max(1.0, float(np.abs(total).max()))
    return total + scale * np.linspace(0, 1, total.size).reshape(total.shape)


def _named_arrays(posterior: AbstractPosterior) -> dict[str, np.ndarray]:
    """Return the arguments of the program by name, those that are arrays of numbers."""
    names = list(signature_of(posterior.problem.program).parameters)
    arguments = dict(zip(names, posterior.problem.args, strict=False)) | dict(
        posterior.problem.kwargs
    )
    arrays = {
        k: np.asarray(v) for k, v in arguments.items() if isinstance(v, np.ndarray | jax.Array)
    }
    return {k: v for k, v in arrays.items() if v.dtype.kind in "iufb"}


def to_arviz(
    posterior: AbstractPosterior,
    log_likelihood: bool = False,
    log_prior: bool = False,
    posterior_predictive: bool = False,
) -> Any:
    """Return InferenceData for ArviZ before 1.0, a DataTree from then on, of `to_datatree`."""
    import arviz

    tree = to_datatree(posterior, log_likelihood, log_prior, posterior_predictive)
    if int(arviz.__version__.split(".")[0]) >= 1:
        return tree
    groups: dict[str, Any] = {name: node.to_dataset() for name, node in tree.children.items()}
    return arviz.InferenceData(**groups)


def summary(posterior: AbstractPosterior, sites: list[str] | None) -> DataFrame:
    """Return arviz-stats' summary of the sites that the data can identify, or of those named.

    Raises:
        ValueError: for unknown sites.
    """
    from arviz_stats.summary import summary as table

    if not posterior.samples:
        return _fixed_summary(posterior, sites)
    unknown = [site for site in sites or [] if site not in posterior.samples]
    if unknown:
        raise ValueError(f"No site {unknown[0]!r}: expected some of {list(posterior.samples)}.")
    chosen = (
        sites
        or [site for site in posterior.samples if posterior.model.shows(site)]
        or list(posterior.samples)
    )
    kind = "stats" if posterior.raw.independent_draws else "all"
    arrays = {site: posterior.samples[site] for site in chosen}
    tree = tree_of({"posterior": dict(zip(_numbered(arrays), arrays.values(), strict=True))})
    settings: dict[str, Any] = {"kind": kind, "round_to": "none", "ci_prob": INTERVAL}
    # an entry that never changes has no R-hat
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Any = table(tree, **settings)
    return _with_sites(found, arrays, posterior)


def _numbered(arrays: Mapping[str, object]) -> list[str]:
    """Return a name for each array that arviz-stats and xarray can hold, whatever its own is."""
    return [f"v{i}" for i in range(len(arrays))]


def _with_sites(
    table: DataFrame,
    arrays: Mapping[str, np.ndarray],
    posterior: AbstractPosterior | None = None,
) -> DataFrame:
    """Return a table of arviz-stats with the names of sites and the labels of entries.

    Args:
        table: the table, a row per scalar, for arrays with `_numbered` names.
        arrays: the arrays by site, in the order of the numbers.
        posterior: where the labels are from; without one, entries are numbered.
    """
    dims = site_dims(posterior.problem, posterior.names) if posterior else {}
    names = posterior.names if posterior else Names()
    labels = {
        number: (
            np.shape(values)[2:],
            entry_labels(site, np.shape(values)[2:], dims, names, ", "),
        )
        for number, (site, values) in zip(_numbered(arrays), arrays.items(), strict=True)
    }
    rows = []
    for row in table.index:
        number, _, index = str(row).partition("[")
        shape, entries = labels[number]
        at = [int(i) for i in index.rstrip("]").split(",")] if index else []
        rows.append(entries[int(np.ravel_multi_index(at, shape))] if at else entries[0])
    return table.set_axis(rows, axis=0)


def _fixed_summary(posterior: AbstractPosterior, sites: list[str] | None) -> DataFrame:
    """Return the summary of a result without draws: of sites in closed form, or of estimates."""
    import pandas as pd

    if known := posterior.raw.site_predictives():
        predictions = [site_prediction(posterior, site) for site in sites or known]
        table = {
            "mean": [float(one.mean) for one in predictions],
            "sd": [float(one.std) for one in predictions],
        }
        for q in (0.05, 0.95):
            table[f"{q:.0%}"] = [float(one.quantile(q)) for one in predictions]
        return pd.DataFrame(table, index=pd.Index(sites or known))
    values = posterior.raw.info.get("hyperparameters", {})
    unknown = [site for site in sites or [] if site not in values]
    if unknown:
        raise ValueError(f"No site {unknown[0]!r}: expected some of {list(values)}.")
    values = values if sites is None else {site: values[site] for site in sites}
    rows = {}
    for name, value in values.items():
        array = np.asarray(value)
        rows |= {
            name if not array.ndim else f"{name}[{','.join(map(str, i))}]": array[i]
            for i in np.ndindex(array.shape)
        }
    return pd.DataFrame({"value": rows})


def to_pandas(posterior: AbstractPosterior) -> DataFrame:
    """Return a row per draw with columns chain, draw, and a column per scalar."""
    import pandas as pd

    columns: dict[str, Any] = {}
    dims = site_dims(posterior.problem, posterior.names)
    for name, values in posterior.samples.items():
        chains, draws = values.shape[:2]
        columns.setdefault("chain", np.repeat(np.arange(chains), draws))
        columns.setdefault("draw", np.tile(np.arange(draws), chains))
        flat = values.reshape(chains * draws, -1)
        labels = entry_labels(name, values.shape[2:], dims, posterior.names)
        columns |= {label: flat[:, j] for j, label in enumerate(labels)}
    return pd.DataFrame(columns)
