"""The engines: the one list of them, engines by name, and the choice among them for a problem.

A new engine takes two lines here: its import, and its name in `__all__`. The documentation's
table, the command line, `engine="auto"`, saved files, the contract tests and `bdl.NAME` follow
from that. A package of one's own calls `register_engine`.
"""

from __future__ import annotations

import inspect

from bayesdl.model.registry import add_named
from bayesdl.typing import EngineLike
from inference.circuits.engine import EM, VBEM
from inference.core.engine import AbstractEngine, Preference, UnsupportedError
from inference.core.problem import Problem
from inference.exact.gp import ExactGP
from inference.exact.sparse import SparseGP
from inference.laplace.engine import Laplace
from inference.mcmc.gibbs import Gibbs
from inference.mcmc.hmc import HMC, NUTS
from inference.mcmc.mclmc import MCLMC
from inference.mcmc.sgmcmc import SGHMC, SGLD, CyclicalSGMCMC
from inference.messages.engine import MessagePassing
from inference.sparse.engine import SSVI
from inference.stacking.engine import Stacking
from inference.torch.gpytorch_gp import GPyTorchGP
from inference.torch.pyro_nuts import PyroNUTS
from inference.vi.engine import VI

# In the order of tables and of the command line's help.
__all__ = [  # noqa: RUF022
    "NUTS",
    "HMC",
    "Gibbs",
    "MCLMC",
    "SGLD",
    "SGHMC",
    "CyclicalSGMCMC",
    "VI",
    "Laplace",
    "SSVI",
    "ExactGP",
    "SparseGP",
    "GPyTorchGP",
    "PyroNUTS",
    "MessagePassing",
    "Stacking",
    "VBEM",
    "EM",
]

AUTO = "auto"
ENGINES: list[type[AbstractEngine]] = []


def register_engine(engine: type[AbstractEngine]) -> type[AbstractEngine]:
    """Add an engine to those that the whole package knows; usable as a decorator of its class.

    A class that is defined again, as in a notebook, takes the place of its first definition.

    Raises:
        ValueError: where another engine has its name, or it is called "auto".
    """
    if AUTO in _names(engine):
        raise ValueError(
            f"{engine.__module__}.{engine.__qualname__} cannot be registered: the name 'auto' "
            "leaves the choice to bayesdl. Give the class another name, or `cli_name`."
        )
    add_named(ENGINES, engine, _names)
    return engine


def cli_name(engine: type[AbstractEngine]) -> str:
    """Return an engine's name on the command line."""
    return engine.cli_name or engine.__name__.lower()


def leaves_model_open(engine: EngineLike) -> bool:
    """Return whether an engine fits the default model of tables, an average of several."""
    name = engine if isinstance(engine, str) else type(engine).__name__
    return plain(name) in (AUTO, plain(Stacking.__name__))


def plain(name: str) -> str:
    """Return a name in lower case without its hyphens and underscores."""
    return name.lower().replace("-", "").replace("_", "")


def _names(engine: type[AbstractEngine]) -> list[str]:
    """Return the names by which an engine is found, as `plain` writes them."""
    return [plain(engine.__name__), plain(cli_name(engine))]


for _name in __all__:
    register_engine(globals()[_name])


def engine_class(name: str) -> type[AbstractEngine]:
    """Return the engine of a name: that of its class or of the command line, in any case.

    Raises:
        ValueError: listing the names.

    Example:
        >>> engine_class("nuts").__name__, engine_class("exact-gp").__name__
        ('NUTS', 'ExactGP')
    """
    for engine in ENGINES:
        if plain(name) in _names(engine):
            return engine
    raise ValueError(
        f"engine={name!r}: expected an engine such as bdl.NUTS(), or one of the names 'auto', "
        f"{', '.join(repr(cli_name(engine)) for engine in ENGINES)}."
    )


def _as_engine(engine: object) -> AbstractEngine:
    """Return an engine as it is; the engine of a name with its default settings.

    Raises:
        ValueError: for a name that no engine has.
        TypeError: for anything else.
    """
    if isinstance(engine, AbstractEngine):
        return engine
    if isinstance(engine, str):
        return engine_class(engine)()
    got = f"the class {engine.__name__}" if inspect.isclass(engine) else repr(engine)
    raise TypeError(
        f"engine: got {got}, expected an engine such as bdl.NUTS(), its name, or 'auto'."
    )


def _is_auto(engine: object) -> bool:
    """Return whether an engine is left to `choose`."""
    return isinstance(engine, str) and plain(engine) == AUTO


def choose(problem: Problem) -> tuple[AbstractEngine, str]:
    """Return the engine for a problem and, in words, why: the preference of smallest rank."""
    offers = [offer for offer in (engine.preference(problem) for engine in ENGINES) if offer]
    best: Preference = min(offers, key=lambda offer: offer.rank)
    return best.engine, best.reason


def resolve_engine(engine: EngineLike, problem: Problem) -> tuple[AbstractEngine, str | None]:
    """Return the engine that was asked for, or for "auto" the one that suits the problem.

    Returns:
        The engine, and why it was chosen where it was left to us, otherwise None.

    Raises:
        ValueError: for a name that no engine has.
        TypeError: for anything that is no engine.
    """
    return choose(problem) if _is_auto(engine) else (_as_engine(engine), None)


def _supported_engines(problem: Problem) -> list[str]:
    """Return the names of the engines that can run this problem."""
    return [engine.__name__ for engine in ENGINES if engine().supports(problem) is None]


def check_supported(engine: AbstractEngine, problem: Problem) -> None:
    """Refuse an engine that cannot run the problem.

    Raises:
        UnsupportedError: with the reason and the engines that can.
    """
    reason = engine.supports(problem)
    if reason is not None:
        able = ", ".join(_supported_engines(problem)) or "none"
        raise UnsupportedError(
            f"{type(engine).__name__} cannot run this model: {reason}. Engines that can: {able}."
        )
