"""Summaries of a fitted functional tensor: relevance of its functions, and point estimates."""

from __future__ import annotations

from typing import Any

import numpy as np

from inference.core.structure import StateSpaceTensor
from inference.core.typing import StoredArrays


def rank_weights(s: StateSpaceTensor, params: StoredArrays) -> dict[str, list[float]]:
    """Return, for each mode, the root mean square of what each of its functions adds.

    The functions of other modes are taken at their root mean squares.
    """
    sizes = [np.sqrt((params[f"mode{k}.mean"] ** 2).mean(0)) for k in range(len(s.ranks))]
    if s.form == "cp":
        total = np.prod(np.stack(sizes), axis=0)
        return {name: total.tolist() for name in s.names}
    core = params["core.mean"].reshape(s.ranks)
    for k, size in enumerate(sizes):
        core = core * size.reshape([-1 if j == k else 1 for j in range(len(sizes))])
    axes = range(len(sizes))
    return {
        name: np.sqrt((core**2).sum(tuple(j for j in axes if j != k))).tolist()
        for k, name in enumerate(s.names)
    }


def point_estimates(s: StateSpaceTensor, params: StoredArrays) -> dict[str, Any]:
    """Return the point estimates by site, without those that were given.

    sigma is in units of the standardised target.
    """
    found = {name: params[f"hyper.{name}"].tolist() for name in s.hyperparameters}
    learned = s.likelihood.has_scale and s.scale is None
    return found | ({"sigma": float(params["sigma"])} if learned else {})
