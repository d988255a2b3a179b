"""A problem: a NumPyro program together with the data it is conditioned on.

Writing z for the latent variables and y for the data, a program states log p(y, z). Engines that
need gradients work on unconstrained space: with z = T(u) for the bijections T that NumPyro attaches
to the supports,

    log density(u) = log p(y, T(u)) + log |det dT/du|.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample
from numpyro.infer.util import constrain_fn, log_density, potential_energy, unconstrain_fn

from inference.core.enumeration.summed import Summed, dependent_sites
from inference.core.enumeration.terms import EnumerationError
from inference.core.findings import no_start_message
from inference.core.fingerprint import hash_arguments, hash_traced
from inference.core.program import (
    KeyPerName,
    Program,
    Subsampled,
    WholePlates,
    is_factor,
    split_given,
)
from inference.core.structure import AbstractStructure
from inference.process.cached import cached
from inference.process.quiet import quiet
from inference.programs.impossible import impossible_rows
from inference.sharing import compile_with_data
from inference.tracing import trace_abstractly

S = TypeVar("S", bound=AbstractStructure)


class ProblemError(ValueError):
    """The program and its data cannot be turned into something that an engine can compute."""


@dataclasses.dataclass(frozen=True, eq=False)
class LogDensity:
    """The log density of a problem on flat unconstrained space (see the module's docstring)."""

    problem: Problem

    @cached
    def _flat(self) -> tuple[jax.ShapeDtypeStruct, Callable[[jax.Array], dict[str, jax.Array]]]:
        shapes = jax.eval_shape(self.prior_draw, jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        flat, unravel = ravel_pytree(zeros)
        return jax.ShapeDtypeStruct(flat.shape, flat.dtype), unravel

    @property
    def unravel(self) -> Callable[[jax.Array], dict[str, jax.Array]]:
        """The map from a flat vector, shape (d,), to the dictionary of unconstrained sites."""
        return self._flat[1]

    @property
    def shape(self) -> jax.ShapeDtypeStruct:
        """The shape (d,) and the type of flat vectors."""
        return self._flat[0]

    def prior_draw(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw the unconstrained sites from the prior, uniformly on (-2, 2) if it is improper."""
        drawn = self.problem.prior_draw(key)
        return self.problem.to_unconstrained({name: drawn[name] for name in self.problem.latents})

    def ravel(self, sites: Mapping[str, ArrayLike]) -> jax.Array:
        """Flatten unconstrained sites: the inverse of `unravel`."""
        return ravel_pytree(sites)[0]

    def __call__(self, u: ArrayLike) -> jax.Array:
        """Return the log density at u, a scalar."""
        return self.problem.log_density_at(self.unravel(jnp.asarray(u)))

    def constrain(self, u: ArrayLike) -> dict[str, jax.Array]:
        """Return the program's sites at u, deterministic ones included."""
        problem, sites = self.problem, self.unravel(jnp.asarray(u))
        program, given = problem.density_program, (problem.args, dict(problem.kwargs))
        return constrain_fn(program, *given, sites, return_deterministic=True)

    def start(self, key: jax.Array, num_tries: int = 20) -> np.ndarray:
        """Draw from the prior until density and gradient are finite; shape (d,).

        Raises:
            ProblemError: if `num_tries` draws give none.
        """
        return next(self.starts([key], num_tries))

    def starts(self, keys: Iterable[jax.Array], num_tries: int = 20) -> Iterator[np.ndarray]:
        """Give a start for each key, as `start` does; compiled once for all."""

        compiled = compile_with_data(self.problem, _attempt_start)
        for key in keys:
            yield self._first_finite(compiled, jax.random.split(key, num_tries))

    def _first_finite(self, attempt: Callable, keys: jax.Array) -> np.ndarray:
        """Return the first draw whose density and gradient are finite."""
        with quiet(message="Out-of-support values"):  # the error below says it
            for key in keys:
                u, value, gradient = map(np.asarray, attempt(key))
                if np.isfinite(value) and np.isfinite(gradient).all():
                    return u
        raise ProblemError(no_start_message(self.problem.latents, impossible_rows(self.problem)))


def _attempt_start(problem: Problem, key: jax.Array) -> tuple[jax.Array, ...]:
    """Return a draw from the prior on flat unconstrained space, with log density and gradient."""
    density = problem.log_density()
    u = density.ravel(density.prior_draw(key))
    return u, *jax.value_and_grad(density)(u)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A NumPyro program, its data, and the structure that some engines exploit.

    Args:
        program: any NumPyro program.
        args: the positional arguments of the program; their array leaves are the data.
        kwargs: the keyword arguments of the program.
        structure: what special engines may exploit, or None.
        drawn: the names of the discrete latent sites that the engine draws itself; all others are
            summed out.

    Plates that ask for a `subsample_size` are given all their rows: the engine decides whether
    a step sees a minibatch.
    """

    program: Program
    args: tuple = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    structure: AbstractStructure | None = None
    drawn: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not isinstance(self.program, WholePlates | Subsampled):
            object.__setattr__(self, "program", WholePlates(self.program))

    def structure_as(self, kind: type[S]) -> S:
        """Return the structure as the kind that the engine checked in `supports`.

        Raises:
            ProblemError: if the problem offers another structure or none.
        """
        if not isinstance(self.structure, kind):
            raise ProblemError(
                f"The problem offers {type(self.structure).__name__}, expected {kind.__name__}."
            )
        return self.structure

    @cached
    def traced(self) -> tuple[dict[str, dict], ClosedJaxpr]:
        """The abstract trace of the program, and its operations, whose constants are the data."""
        return trace_abstractly(self.program, self.args, self.kwargs)

    @property
    def trace(self) -> dict[str, dict]:
        """The abstract trace of the program: shapes and distributions by site, no arithmetic."""
        return self.traced[0]

    @property
    def unobserved(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all sites without data by name, those that are summed out included."""
        return {
            name: tuple(np.shape(site["value"]))
            for name, site in self.trace.items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the latent sites that are inferred, by name."""
        return {name: at for name, at in self.unobserved.items() if name not in self.summed}

    @property
    def observed(self) -> tuple[str, ...]:
        """The names of the observed sites; factors (`numpyro.factor`) are not data."""
        return tuple(
            name
            for name, site in self.trace.items()
            if site["type"] == "sample" and site["is_observed"] and not is_factor(site["fn"])
        )

    @property
    def factors(self) -> tuple[str, ...]:
        """The names of the factors (`numpyro.factor`)."""
        samples = {k: site for k, site in self.trace.items() if site["type"] == "sample"}
        return tuple(name for name, site in samples.items() if is_factor(site["fn"]))

    @property
    def data_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the observed sites."""
        return [tuple(np.shape(self.trace[name]["value"])) for name in self.observed]

    @property
    def discrete_latents(self) -> tuple[str, ...]:
        """The latent sites with discrete support, whose gradient no engine can take."""
        return tuple(n for n in self.unobserved if self.trace[n]["fn"].support.is_discrete)

    @property
    def summed(self) -> frozenset[str]:
        """The names of the discrete latent sites that are summed out."""
        return frozenset(self.discrete_latents) - self.drawn

    def with_drawn_sites(self, names: Iterable[str]) -> Problem:
        """Return the problem whose engine draws these discrete latent sites itself."""
        if frozenset(names) == self.drawn:
            return self
        other = dataclasses.replace(self, drawn=frozenset(names))
        # the program is the same, and has run
        other.__dict__.update({k: v for k, v in self.__dict__.items() if k == "traced"})
        return other

    @property
    def first_free_dim(self) -> int:
        """The first dimension, counted from the right, that no batch of a site takes."""
        sites = [site for site in self.trace.values() if site["type"] == "sample"]
        return -1 - max((len(site["fn"].batch_shape) for site in sites), default=0)

    @cached
    def density_program(self) -> Program:
        """The program as engines take it: with latent sites that are real, the others summed."""
        if not self.summed:
            return self.program
        samples = {name for name, site in self.trace.items() if site["type"] == "sample"}
        hidden = (samples - set(self.latents)) | self.depends_on_summed
        return Summed(self.program, self.summed, frozenset(hidden), self.first_free_dim)

    @cached
    def depends_on_summed(self) -> frozenset[str]:
        """The names of the deterministic sites that depend on what is summed out."""
        seeded = KeyPerName(self.program, jax.random.key(0))
        drawn = handlers.substitute(seeded, substitute_fn=init_to_sample)
        return dependent_sites(drawn, self.trace, self.summed, self.args, self.kwargs)

    @property
    def plates(self) -> dict[str, int]:
        """The sizes of the plates that hold observed data, by name."""
        names = {
            frame.name for site in self.observed for frame in self.trace[site]["cond_indep_stack"]
        }
        return {
            name: site["args"][0]
            for name, site in self.trace.items()
            if site["type"] == "plate" and name in names
        }

    def log_density(self) -> LogDensity:
        """Return the log density on unconstrained space, one for each precision of JAX."""
        return self.__dict__.setdefault(f"density {jnp.result_type(float)}", LogDensity(self))

    def prior_draw(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw all sites without data, uniformly on (-2, 2) where the prior is improper."""
        program = handlers.substitute(KeyPerName(self.program, key), substitute_fn=init_to_sample)
        sites = handlers.trace(program).get_trace(*self.args, **self.kwargs)
        return {name: sites[name]["value"] for name in self.unobserved}

    def prior_sample(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw every site, data included, from the joint distribution; observations are ignored."""
        program = handlers.uncondition(KeyPerName(self.program, key))
        sites = handlers.trace(program).get_trace(*self.args, **self.kwargs)
        return {
            name: site["value"]
            for name, site in sites.items()
            if site["type"] in ("sample", "deterministic")
        }

    def with_observations(self, values: Mapping[str, ArrayLike]) -> Problem:
        """Return the same problem with other values at its observed sites."""
        program = handlers.condition(self.program, data=dict(values))
        return dataclasses.replace(self, program=program)

    def fingerprint(self) -> tuple[str, str]:
        """Return a hash of the data and one of the model.

        The hash of the model covers the operations of its log density and their constants, so
        data that the program closes over, instead of taking them as arguments, belong to it.
        """
        # afresh: the operations of `unravel` belong to the hash
        density = LogDensity(self)
        u = jax.eval_shape(lambda key: density.ravel(density.prior_draw(key)), jax.random.key(0))
        traced = jax.make_jaxpr(density.__call__)(u)
        return hash_arguments(self.args, self.kwargs), hash_traced(traced)

    @property
    def data_plate(self) -> tuple[str, int]:
        """The name and the size of the one plate that holds the data.

        Raises:
            ProblemError: if there is not exactly one.
        """
        if len(self.plates) != 1:
            raise ProblemError(
                "Minibatches need one plate over the data, and this program has "
                f"{len(self.plates)}. Wrap the observed site in two lines: `with "
                "numpyro.plate('rows', n) as idx:` and take `x[idx]`, `y[idx]`."
            )
        ((name, total),) = self.plates.items()
        return name, total

    def batch_log_density(self, size: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Return a function from (u, rows) to the log density on a minibatch.

        `rows` holds `size` row numbers; the likelihood of these rows is rescaled, so that the
        mean over random rows is `log_density()(u)`. `minibatch` checks whether the program takes
        its rows by the index of its plate.
        """
        name, total = self.data_plate

        def density(u: jax.Array, rows: jax.Array) -> jax.Array:
            program = Subsampled(self.program, name, size, rows) if size < total else self.program
            return dataclasses.replace(self, program=program).log_density_at(unravel(u))

        unravel = self.log_density().unravel
        return density

    def to_unconstrained(self, sites: Mapping[str, Any]) -> dict[str, Any]:
        """Return unconstrained values for the latent sites; those of drawn sites stay."""
        program, rest, drawn = split_given(self.density_program, sites, self.drawn)
        return unconstrain_fn(program, self.args, dict(self.kwargs), rest) | drawn

    def log_density_at(self, sites: Mapping[str, Any]) -> jax.Array:
        """Return the log density at unconstrained values of the sites."""
        program, rest, _ = split_given(self.density_program, sites, self.drawn)
        return -jnp.asarray(potential_energy(program, self.args, dict(self.kwargs), rest))

    def minibatch(self, size: int) -> Problem:
        """Return the problem on random minibatches, with the likelihood rescaled to stay unbiased.

        Inside `plate(...) as idx` the program must take its rows by `idx`, or by
        `numpyro.subsample`.

        Raises:
            ProblemError: if the program has not exactly one plate over its data, or the size does
                not fit.
        """
        name, total = self.data_plate
        if not 0 < size <= total:
            raise ProblemError(
                f"Batch size {size} is outside 1..{total}, the rows of plate '{name}'."
            )
        batched = dataclasses.replace(self, program=Subsampled(self.program, name, size))
        batched.check_batch(name, size)
        return batched

    def _run_density(self, key: jax.Array) -> jax.Array | float:
        """Run the program that engines take once, with plates that draw their rows."""
        seeded = handlers.seed(self.density_program, key)
        program = handlers.substitute(seeded, substitute_fn=init_to_sample)
        return log_density(program, self.args, dict(self.kwargs), {})[0]

    def check_batch(self, plate: str, size: int) -> None:
        """Refuse a program that does not take its rows by the index of its plate.

        Raises:
            ProblemError: naming the site.
        """
        cure = f"inside `with numpyro.plate('{plate}', n) as idx:` take x[idx] and y[idx]"
        try:
            sites = self.trace
            if self.summed:
                jax.eval_shape(self._run_density, jax.random.key(0))
        except EnumerationError as error:
            raise ProblemError(f"Minibatches cannot be used: {error}.") from None
        except Exception as error:
            raise ProblemError(
                f"The program fails on a minibatch of {size} rows; {cure}. ({error})"
            ) from error
        for name, site in sites.items():
            if site["type"] != "sample" or plate not in {
                frame.name for frame in site["cond_indep_stack"]
            }:
                continue
            if not site["is_observed"] and name not in self.summed:
                raise ProblemError(
                    f"Site '{name}' is latent for each row of plate '{plate}': minibatches cannot "
                    "be used."
                )
            axis = next(
                frame.dim for frame in site["cond_indep_stack"] if frame.name == plate
            ) - len(site["fn"].event_shape)
            if site["value"].shape[axis] != size:
                rows = site["value"].shape[axis]
                raise ProblemError(
                    f"Site '{name}' has {rows} rows in a minibatch of {size}; {cure}."
                )
