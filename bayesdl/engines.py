"""The engines, and the choice among them by model and size of the data."""

from __future__ import annotations

import importlib.util
import math

from inference.core.engine import AbstractEngine, UnsupportedError
from inference.core.problem import Problem
from inference.core.structure import (
    AbstractGaussianProcessRegression,
    LayeredNetwork,
    StateSpaceTensor,
)
from inference.exact.gp import ExactGP
from inference.laplace.engine import Laplace
from inference.mcmc.hmc import HMC, NUTS
from inference.mcmc.mclmc import MCLMC
from inference.mcmc.sgmcmc import SGHMC, SGLD, CyclicalSGMCMC
from inference.messages.engine import MessagePassing
from inference.sparse.engine import SSVI
from inference.torch.gpytorch_gp import GPyTorchGP
from inference.torch.pyro_nuts import PyroNUTS
from inference.vi.engine import VI

ENGINES: tuple[type[AbstractEngine], ...] = (
    *(NUTS, HMC, MCLMC, SGLD, SGHMC, CyclicalSGMCMC),
    *(VI, Laplace, SSVI, ExactGP, GPyTorchGP, PyroNUTS, MessagePassing),
)

EXACT_ROWS = 3000  # a Cholesky factor of this size takes about a second on two cores
NUTS_WORK = 3_000_000  # rows times latent dimensions; a default NUTS run then takes some minutes on two cores


def choose(problem: Problem) -> tuple[AbstractEngine, str]:
    """The engine for a problem and, in words, why."""
    rows = max((shape[0] for shape in problem.data_shapes if shape), default=0)
    size = sum(math.prod(shape) for shape in problem.latents.values())
    if isinstance(problem.structure, AbstractGaussianProcessRegression):
        if rows <= EXACT_ROWS:
            return ExactGP(), f"a Gaussian process with {rows} rows has a closed form"
        if importlib.util.find_spec("gpytorch"):
            return GPyTorchGP(method="svgp"), f"{rows} rows are too many for a closed form"
        return (
            ExactGP(),
            f"{rows} rows are many; install bayesdl[torch] for a sparse Gaussian process",
        )
    if (
        isinstance(problem.structure, StateSpaceTensor)
        and MessagePassing().supports(problem) is None
    ):
        return MessagePassing(), "a functional tensor is what it is made for"
    if rows * size <= NUTS_WORK:
        start = "prior" if isinstance(problem.structure, LayeredNetwork) else "uniform"
        return NUTS(
            start=start
        ), f"{rows} rows and {size} latent dimensions are few enough for MCMC"
    return VI(), f"{rows} rows and {size} latent dimensions are many for MCMC"


def supported_engines(problem: Problem) -> list[str]:
    """Names of the engines that can run this problem."""
    return [engine.__name__ for engine in ENGINES if engine().supports(problem) is None]


def check_supported(engine: AbstractEngine, problem: Problem) -> None:
    """Refuses an engine that cannot run the problem.

    Raises:
        UnsupportedError: with the reason and the engines that can.
    """
    reason = engine.supports(problem)
    if reason is not None:
        able = ", ".join(supported_engines(problem)) or "none"
        raise UnsupportedError(
            f"{type(engine).__name__} cannot run this model: {reason}. Engines that can: {able}."
        )
