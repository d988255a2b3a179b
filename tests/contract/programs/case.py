"""What a case of the catalogue is: a program, its data, new data, and what is refused in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """One program with data.

    Attributes:
        name: a short name, unique in the catalogue.
        program: the NumPyro program.
        data: its arguments without the observations.
        observed: the observations, by argument.
        new: the arguments of new data; None where the program has none but those of training.
        site: the observed site to predict and to judge, where there are several.
        refused: a regular expression of the refusal, by "verb" or "engine verb".
        may_refuse: the same for cells that are refused or answered, as the search ends: a density
            without a mode in reach.
        summed: the same program with its discrete sites summed out by hand.
        means: the predictive means at the training rows given draws of the latent sites, in closed
            form; for discrete sites that rows share, which stand at their posterior there, and
            which `Predictive` would draw from their prior.
        needs: the name of a package that the program needs.
        conditions: whether the program conditions itself on its observations by a handler,
            so that without them it simulates a path, each step of which depends on the last.
        dense: whether `numpyro.infer.log_likelihood` gives the densities of the rows.
    """

    name: str
    program: Callable
    data: tuple = ()
    observed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    new: tuple | None = None
    site: str | None = None
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    may_refuse: Mapping[str, str] = dataclasses.field(default_factory=dict)
    summed: Callable | None = None
    means: Callable[[Mapping[str, np.ndarray]], np.ndarray] | None = None
    needs: str | None = None
    conditions: bool = False
    dense: bool = True

    def refusal(self, engine: str, verb: str) -> str | None:
        """Return the regular expression of the refusal of a cell, or None where it is answered."""
        fitted = self.refused.get(f"{engine} fit", self.refused.get("fit"))
        return self.refused.get(f"{engine} {verb}", self.refused.get(verb, fitted))


NO_MODE = {"Laplace fit": "no proper maximum"}
"""Densities that rise without bound, or have saddles, as scales of groups go to zero."""


def generator(seed: int = 0) -> np.random.Generator:
    """Return the generator of a case's simulated data."""
    return np.random.default_rng(seed)
