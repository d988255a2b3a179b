"""What every model is: a spec of plain data that reads data, writes a NumPyro program and predicts from draws.

Data flow one way: data -> schema (what the data look like) -> problem (program and arrays) -> engine -> result.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import jax
from numpyro import handlers
from numpyro.distributions import Distribution

from bayesdl.data.target import Target
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive


class AbstractModel(abc.ABC):
    """A model spec. Final classes are frozen dataclasses of plain data."""

    double_precision = False  # whether the model's arithmetic needs 64 bits (Cholesky factors do)

    @abc.abstractmethod
    def learn_schema(self, *data: Any, **named: Any) -> Any:
        """Learns what the data look like.

        Raises:
            DataError: where they cannot be used.
        """

    @abc.abstractmethod
    def problem(self, schema: Any, *data: Any, **named: Any) -> Problem:
        """The program with the data, as engines take it."""

    @abc.abstractmethod
    def build_problem(self, schema: Any, args: tuple, kwargs: dict) -> Problem:
        """The problem with arguments that are already as the program takes them."""

    @abc.abstractmethod
    def inputs(self, schema: Any, *data: Any, **named: Any) -> tuple[tuple, dict]:
        """Arguments of the program for predicting new data; observations left out."""

    @abc.abstractmethod
    def training_inputs(self, problem: Problem) -> tuple[tuple, dict]:
        """The arguments for predicting at the training data."""

    @abc.abstractmethod
    def target(self, schema: Any, problem: Problem) -> Target:
        """What is predicted, in the user's units."""

    @abc.abstractmethod
    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        """The law of new data given one draw of the latent sites; its key draws what the program needs besides.

        Args:
            problem: with the training data.
            around: values of the latent sites around which the network is linearised, where there is one.
        """

    @abc.abstractmethod
    def split(self, problem: Problem, *data: Any, **named: Any) -> tuple[tuple, dict, Any]:
        """Data as given to `fit`, parted into inputs (args, kwargs) and the target to be predicted."""

    rows_are_independent = False  # whether predictions may be made in chunks of rows

    rows_correlated = False  # whether rows depend on each other given the latent sites; the law then takes joint=True

    def identified(self, site: str) -> bool:
        """Whether the data can pin down this site, so that chains must agree on it."""
        return True

    def _repr_html_(self) -> str:
        from bayesdl.plots.html import model_html

        return model_html(self)


def site_distribution(
    program: Callable, site: str, latents: dict, key: jax.Array, args: tuple, kwargs: Mapping
) -> Distribution:
    """The distribution of an unobserved site of a program given the latent sites; other unobserved sites are drawn."""
    conditioned = handlers.substitute(handlers.seed(program, key), data=latents)
    return handlers.trace(conditioned).get_trace(*args, **kwargs)[site]["fn"]
