"""To ArviZ and xarray; the only file that knows ArviZ versions."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.posterior import Posterior
from inference.result import Draws


def to_datatree(posterior: Posterior) -> Any:
    """Groups posterior, sample_stats, observed_data and constant_data.

    Raises:
        ValueError: for a predictor, which has no draws.
    """
    import arviz_base

    if not posterior.samples:
        raise ValueError(f"{posterior!r} has no draws of parameters: it predicts in closed form. Use predict.")
    groups: dict[str, Any] = {"posterior": posterior.samples}
    groups |= {"sample_stats": posterior.raw.stats} if isinstance(posterior.raw, Draws) else {}
    arrays = _named_arrays(posterior)
    observed = {name: arrays.pop(name) for name in posterior.problem.observed if name in arrays}
    groups |= {"observed_data": observed} if observed else {}
    groups |= {"constant_data": arrays} if arrays else {}
    return arviz_base.from_dict(groups)


def _named_arrays(posterior: Posterior) -> dict[str, np.ndarray]:
    """Arguments of the program by name."""
    import inspect

    names = list(inspect.signature(posterior.problem.program).parameters)
    arguments = dict(zip(names, posterior.problem.args, strict=False)) | dict(posterior.problem.kwargs)
    return {k: v for k, v in arguments.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iufb"}


def to_arviz(posterior: Posterior) -> Any:
    """InferenceData for ArviZ before 1.0, a DataTree from then on."""
    import arviz

    tree = to_datatree(posterior)
    if int(arviz.__version__.split(".")[0]) >= 1:
        return tree
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    return arviz.InferenceData(**groups)


def summary(posterior: Posterior, sites: list[str] | None) -> Any:
    """arviz-stats' summary of the sites that the data can identify, or of those named.

    Raises:
        ValueError: for unknown sites.
    """
    from arviz_stats.summary import summary as table

    if not posterior.samples:
        return _fixed_summary(posterior)
    unknown = [site for site in sites or [] if site not in posterior.samples]
    if unknown:
        raise ValueError(f"No site {unknown[0]!r}: expected some of {list(posterior.samples)}.")
    chosen = sites or [site for site in posterior.samples if posterior.model.identified(site)] or list(posterior.samples)
    kind = "all" if isinstance(posterior.raw, Draws) else "stats"
    return table(to_datatree(posterior), var_names=chosen, kind=kind, round_to="none")  # pyright: ignore[reportArgumentType]


def _fixed_summary(posterior: Posterior) -> Any:
    import pandas as pd

    values = posterior.raw.info.get("hyperparameters", {})
    rows = {}
    for name, value in values.items():
        array = np.asarray(value)
        rows |= {name if not array.ndim else f"{name}[{','.join(map(str, i))}]": array[i] for i in np.ndindex(array.shape)}
    return pd.DataFrame({"value": rows})


def to_pandas(posterior: Posterior) -> Any:
    """A row per draw with columns chain, draw, and a column per scalar."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, values in posterior.samples.items():
        chains, draws = values.shape[:2]
        columns.setdefault("chain", np.repeat(np.arange(chains), draws))
        columns.setdefault("draw", np.tile(np.arange(draws), chains))
        flat = values.reshape(chains * draws, -1)
        labels = [",".join(map(str, i)) for i in np.ndindex(values.shape[2:])]
        columns |= {name if label == "" else f"{name}[{label}]": flat[:, j] for j, label in enumerate(labels)}
    return pd.DataFrame(columns)
