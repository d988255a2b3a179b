"""The No-U-Turn Sampler by Pyro, on the same program written in Pyro's words.

It samples what `inference.mcmc.hmc.NUTS` samples, with another library's program, densities,
gradients and sampler: a check of one by the other, and a way to carry on in torch. The algorithm is
that of Hoffman and Gelman (2014, arXiv:1111.4246) with multinomial sampling (Betancourt 2017,
arXiv:1701.02434), in double precision. Pyro follows the trajectories in Python, so it is many times
slower.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import jax
import numpy as np

from inference.core.engine import (
    AbstractEngine,
    check_positive_integers,
    needs_gradients,
    require_draws,
)
from inference.core.findings import Finding, no_start_message
from inference.core.keys import named_key
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, Draws
from inference.core.structure import LayeredNetwork
from inference.mcmc.findings import sampler_diagnostics, sampler_findings
from inference.process.quiet import quiet
from inference.torch.install import ALONE, load, reason_missing

if TYPE_CHECKING:
    PyroKernel: TypeAlias = Any
    """A kernel of Pyro, whose potential function its class declares as None."""
else:
    PyroKernel = object

# transitions between two reports of progress
BLOCK = 10


@dataclasses.dataclass(frozen=True)
class PyroNUTS(AbstractEngine):
    """The No-U-Turn Sampler by Pyro; chains run one after another.

    Attributes:
        can_checkpoint: whether interrupted runs can go on; no.
        num_warmup: the number of adaptation steps per chain, which are not kept.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        target_accept: the acceptance probability that the step size aims at; raise it when draws
            diverge.
        max_tree_depth: the depth of the largest trajectory, which has at most
            2 ** max_tree_depth leapfrog steps.
        compiled: whether torch traces the log density once and then runs it without Python, which
            is about four times faster.

    Example:
        >>> PyroNUTS(num_warmup=200, num_samples=200).max_tree_depth
        10
    """

    cli_name: ClassVar[str] = "pyro"

    num_warmup: int = 500
    num_samples: int = 500
    num_chains: int = 2
    target_accept: float = 0.8
    max_tree_depth: int = 10
    compiled: bool = True

    def __post_init__(self) -> None:
        check_positive_integers(self, "num_warmup", "num_samples", "num_chains", "max_tree_depth")
        if not 0 < self.target_accept < 1:
            raise ValueError(
                f"{type(self).__name__}(target_accept={self.target_accept}): expected a number in "
                "(0, 1)."
            )

    @classmethod
    def example(cls) -> PyroNUTS:
        return cls(num_warmup=15, num_samples=10, num_chains=1, max_tree_depth=4)

    def supports(self, problem: Problem) -> str | None:
        structure = problem.structure
        if not isinstance(structure, LayeredNetwork) or structure.pyro_program is None:
            return "it needs a model that can be written in Pyro (bdl.BNN without network=...)"
        return needs_gradients(problem) or reason_missing("torch", "pyro")

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> Draws:
        load("pyro.infer")
        structure = problem.structure
        # `supports` has made sure of this
        assert isinstance(structure, LayeredNetwork) and structure.pyro_program is not None
        started = time.perf_counter()
        program, data = structure.pyro_program(problem.program), data_tensors(problem)
        progress.start(
            self.num_chains * (self.num_warmup + self.num_samples),
            f"{self.num_chains} chains by Pyro",
        )
        chains = []
        try:
            for chain in range(self.num_chains):
                seed = int(jax.random.bits(named_key(key, f"chain {chain}")))
                chains.append(
                    _run_isolated(seed, lambda: self.run_chain(problem, program, data, progress))
                )
        finally:
            progress.close()
        samples, stats, step_sizes = zip(*chains, strict=True)
        info = {"seconds": time.perf_counter() - started, "step_size": list(step_sizes)}
        return Draws(_stack_chains(samples), _stack_chains(stats), info)

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Draws:
        return Draws.from_arrays(arrays, info)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        return sampler_diagnostics(require_draws(result))

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        cure = "raise target_accept towards 0.99, or reparametrise"
        return tuple(sampler_findings(require_draws(result), facts, cure))

    def run_chain(
        self, problem: Problem, program: Callable, data: tuple, progress: AbstractProgress
    ) -> tuple:
        """Run one chain.

        Returns:
            Samples by site and statistics, both with a leading axis of draws, and the step size.
        """
        from pyro.infer import MCMC, NUTS

        kernel = NUTS(
            program,
            target_accept_prob=self.target_accept,
            max_tree_depth=self.max_tree_depth,
            jit_compile=self.compiled,
            ignore_jit_warnings=True,
        )
        watch = TransitionMonitor(progress)
        mcmc = MCMC(kernel, self.num_samples, self.num_warmup, hook_fn=watch, disable_progbar=True)
        try:
            # Pyro uses torch.jit, which torch deprecates
            with quiet(DeprecationWarning, message=r"`torch\.jit"):
                mcmc.run(*data)
        except ValueError as error:
            if "valid initial params" not in str(error):
                raise
            raise ProblemError(no_start_message(problem.latents)) from error
        watch.flush()
        draws = {site: value.detach() for site, value in mcmc.get_samples().items()}
        diverging = np.isin(
            np.arange(self.num_samples), mcmc.diagnostics()["divergences"]["chain 0"]
        )
        stats = {"diverging": diverging, "lp": np.array(watch.log_densities)}
        return _add_deterministic_sites(program, data, draws, problem), stats, watch.step_size


class TransitionMonitor:
    """A hook that Pyro calls after each transition.

    It reports progress in blocks, and notes the log density and the step size.

    Args:
        progress: the progress bar.
    """

    def __init__(self, progress: AbstractProgress) -> None:
        self.progress = progress
        self.waiting, self.stage, self.step_size = 0, "", float("nan")
        self.log_densities: list[float] = []

    def __call__(self, kernel: PyroKernel, position: dict, stage: str, i: int) -> None:
        self.waiting, self.stage, self.step_size = self.waiting + 1, stage, float(kernel.step_size)
        if stage.lower().startswith("sample"):
            potential = kernel.potential_fn
            assert potential is not None
            self.log_densities.append(-potential(position).item())
        if self.waiting == BLOCK:
            self.flush()

    def flush(self) -> None:
        """Report the transitions since the last report."""
        self.progress.advance(self.waiting, stage=self.stage)
        self.waiting = 0


def _run_isolated(seed: int, function: Callable[[], tuple]) -> tuple:
    """Run a function with its own random numbers and parameter store.

    Those of torch and Pyro are restored at the end.
    """
    import pyro
    import torch

    with ALONE, torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        torch.default_generator.manual_seed(seed)
        return function()


def data_tensors(problem: Problem) -> tuple:
    """Return the data as float64 tensors, class labels too: Pyro's distributions take them."""
    import torch

    return tuple(torch.tensor(np.asarray(arg), dtype=torch.float64) for arg in problem.args)


def _add_deterministic_sites(
    program: Callable, data: tuple, draws: dict[str, Any], problem: Problem
) -> dict[str, np.ndarray]:
    """Return the draws and the deterministic sites that follow from them.

    Args:
        program: the program in Pyro.
        data: its arguments.
        draws: the draws of the latent sites as tensors, with a leading axis of draws.
        problem: the problem, which gives the order of the sites.

    Returns:
        float32 arrays by site, in the order of the program.
    """
    poutine = load("pyro.poutine")
    names = [name for name, site in problem.trace.items() if site["type"] == "deterministic"]
    samples = {name: draws[name].numpy().astype(np.float32) for name in problem.latents}
    if not names:
        return samples
    values: dict[str, list] = {name: [] for name in names}
    for i in range(len(next(iter(draws.values())))):
        conditioned = poutine.condition(
            program, data={name: value[i] for name, value in draws.items()}
        )
        nodes = poutine.trace(conditioned).get_trace(*data).nodes
        for name in names:
            values[name].append(nodes[name]["value"].numpy())
    return samples | {name: np.stack(rows).astype(np.float32) for name, rows in values.items()}


def _stack_chains(chains: tuple[dict[str, np.ndarray], ...]) -> dict[str, np.ndarray]:
    """Stack the arrays of all chains, with a leading axis of chains."""
    return {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}
