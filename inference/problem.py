"""A problem: a NumPyro program together with the data it is conditioned on.

Writing z for the latent variables and y for the data, a program states log p(y, z). Gradient-based engines
work on unconstrained space: with z = T(u) for the bijections T that NumPyro attaches to the supports,

    log density(u) = log p(y, T(u)) + log |det dT/du|.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn
from numpyro.primitives import Messenger

from inference.keys import tagged
from inference.structure import AbstractStructure

Program = Callable[..., Any]
S = TypeVar("S", bound=AbstractStructure)


class ProblemError(ValueError):
    """The program and its data cannot be turned into something that an engine can compute."""


@dataclasses.dataclass(frozen=True, eq=False)
class LogDensity:
    """The log density of a problem on flat unconstrained space (see the module's docstring)."""

    problem: Problem

    @functools.cached_property
    def unravel(self) -> Callable[[jax.Array], dict[str, jax.Array]]:
        """Maps a flat vector, shape (d,), to the dictionary of unconstrained sites."""
        shapes = jax.eval_shape(self.prior_draw, jax.random.key(0))
        return ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))[1]

    def prior_draw(self, key: jax.Array) -> dict[str, jax.Array]:
        """A draw of the unconstrained sites from the prior; uniform on (-2, 2) where a prior is improper."""
        problem = self.problem
        program = handlers.substitute(KeyPerName(problem.program, key), substitute_fn=init_to_sample)
        sites = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
        values = {name: sites[name]["value"] for name in problem.latents}
        return problem.unconstrained(values)

    def ravel(self, sites: Mapping[str, ArrayLike]) -> jax.Array:
        """The inverse of `unravel`."""
        return ravel_pytree(sites)[0]

    def __call__(self, u: ArrayLike) -> jax.Array:
        """Log density(u), a scalar."""
        return self.problem.log_density_at(self.unravel(jnp.asarray(u)))

    def constrain(self, u: ArrayLike) -> dict[str, jax.Array]:
        """The program's sites at u, deterministic ones included."""
        problem, sites = self.problem, self.unravel(jnp.asarray(u))
        return constrain_fn(problem.program, problem.args, dict(problem.kwargs), sites, return_deterministic=True)

    def start(self, key: jax.Array, num_tries: int = 20) -> np.ndarray:
        """A draw from the prior at which density and gradient are finite, shape (d,).

        Raises:
            ProblemError: where none is found.
        """

        def attempt(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            u = self.ravel(self.prior_draw(key))
            return u, *jax.value_and_grad(self.__call__)(u)

        with finding_a_start(self.problem):
            compiled = jax.jit(attempt)
            for k in jax.random.split(key, num_tries):
                u, value, gradient = map(np.asarray, compiled(k))
                if np.isfinite(value) and np.isfinite(gradient).all():
                    return u
            raise RuntimeError("every attempt failed")


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A NumPyro program, its data, and the structure that some engines exploit.

    Args:
        program: any NumPyro program.
        args: positional arguments of the program; array leaves are the data.
        kwargs: keyword arguments of the program.
        structure: what special engines may exploit, or None.

    Plates that ask for a `subsample_size` are given all their rows: whether a step sees a batch is the engine's to decide.
    """

    program: Program
    args: tuple = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    structure: AbstractStructure | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.program, WholePlates | Subsampled):
            object.__setattr__(self, "program", WholePlates(self.program))

    def structure_as(self, kind: type[S]) -> S:
        """The structure, as the kind that an engine asked for in `supports`.

        Raises:
            ProblemError: where the problem offers another one or none.
        """
        if not isinstance(self.structure, kind):
            raise ProblemError(f"The problem offers {type(self.structure).__name__}, expected {kind.__name__}.")
        return self.structure

    @functools.cached_property
    def trace(self) -> dict[str, dict]:
        """Abstract trace of the program: shapes and distributions by site, no arithmetic done."""
        seeded = handlers.seed(self.program, jax.random.key(0))
        program = handlers.substitute(seeded, substitute_fn=init_to_sample)  # improper priors have no sampler
        sites: dict[str, dict] = {}

        def run() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sites.update(handlers.trace(program).get_trace(*self.args, **self.kwargs))

        jax.eval_shape(run)
        return sites

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the latent sites by name."""
        return {
            name: tuple(site["value"].shape)
            for name, site in self.trace.items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the observed sites; factors (`numpyro.factor`) are not data."""
        return tuple(
            name
            for name, site in self.trace.items()
            if site["type"] == "sample" and site["is_observed"] and not isinstance(site["fn"], numpyro.distributions.Unit)
        )

    @property
    def data_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the observed sites."""
        return [tuple(self.trace[name]["value"].shape) for name in self.observed]

    @property
    def discrete_latents(self) -> tuple[str, ...]:
        """Latent sites with discrete support, which engines that need gradients refuse."""
        return tuple(name for name in self.latents if self.trace[name]["fn"].support.is_discrete)

    @property
    def plates(self) -> dict[str, int]:
        """Sizes of the plates that hold observed data, by name."""
        names = {frame.name for site in self.observed for frame in self.trace[site]["cond_indep_stack"]}
        return {name: site["args"][0] for name, site in self.trace.items() if site["type"] == "plate" and name in names}

    def log_density(self) -> LogDensity:
        """The log density on unconstrained space."""
        return LogDensity(self)

    def prior_sample(self, key: jax.Array) -> dict[str, jax.Array]:
        """One draw of every site (the data too) from the joint distribution; observations are ignored."""
        program = handlers.uncondition(KeyPerName(self.program, key))
        sites = handlers.trace(program).get_trace(*self.args, **self.kwargs)
        return {name: site["value"] for name, site in sites.items() if site["type"] in ("sample", "deterministic")}

    def observing(self, values: Mapping[str, ArrayLike]) -> Problem:
        """The same problem with other values at its observed sites."""
        return dataclasses.replace(self, program=handlers.condition(self.program, data=dict(values)))

    def fingerprint(self) -> tuple[str, str]:
        """Hashes of the data, and of the model: the operations of its log density and the constants in them.

        Data that the program closes over instead of taking them as arguments are such constants.
        """
        density = self.log_density()
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves((self.args, dict(self.kwargs))):
            digest.update(
                repr((leaf.dtype, leaf.shape)).encode() + np.asarray(leaf).tobytes() if is_array(leaf) else repr(leaf).encode()
            )
        u = jax.eval_shape(lambda key: density.ravel(density.prior_draw(key)), jax.random.key(0))
        return digest.hexdigest(), hash_of(jax.make_jaxpr(density.__call__)(u))

    @property
    def data_plate(self) -> tuple[str, int]:
        """Name and size of the one plate that holds the data.

        Raises:
            ProblemError: where there is not exactly one.
        """
        if len(self.plates) != 1:
            raise ProblemError(
                f"Minibatches need one plate over the data, and this program has {len(self.plates)}. "
                "Wrap the observed site in two lines: `with numpyro.plate('rows', n) as idx:` and take `x[idx]`, `y[idx]`."
            )
        ((name, total),) = self.plates.items()
        return name, total

    def batch_log_density(self, size: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Maps (u, rows), rows being `size` numbers of rows, to the log density with the likelihood of those rows rescaled.

        Its mean over random rows is `log_density()(u)`. Whether the program takes its rows is checked by `minibatch`.
        """
        name, total = self.data_plate

        def density(u: jax.Array, rows: jax.Array) -> jax.Array:
            program = Subsampled(self.program, name, size, rows) if size < total else self.program
            return dataclasses.replace(self, program=program).log_density_at(unravel(u))

        unravel = self.log_density().unravel
        return density

    def unconstrained(self, sites: Mapping[str, Any]) -> dict[str, Any]:
        """Unconstrained values of the latent sites."""
        return unconstrain_fn(self.program, self.args, dict(self.kwargs), dict(sites))

    def log_density_at(self, sites: Mapping[str, Any]) -> jax.Array:
        """The log density at unconstrained values of the sites."""
        return -jnp.asarray(potential_energy(self.program, self.args, dict(self.kwargs), dict(sites)))

    def minibatch(self, size: int) -> Problem:
        """The same problem, each run seeing a random subset of its rows with the likelihood rescaled to stay unbiased.

        Inside `plate(...) as idx` the program must take its rows by `idx`, or by `numpyro.subsample`.

        Raises:
            ProblemError: where the program has not exactly one plate over its data, or the size does not fit.
        """
        name, total = self.data_plate
        if not 0 < size <= total:
            raise ProblemError(f"Batch size {size} is outside 1..{total}, the rows of plate '{name}'.")
        batched = dataclasses.replace(self, program=Subsampled(self.program, name, size))
        batched.check_batch(name, size)
        return batched

    def check_batch(self, plate: str, size: int) -> None:
        """Refuses a program that does not take its rows by the index of its plate.

        Raises:
            ProblemError: naming the site.
        """
        cure = f"inside `with numpyro.plate('{plate}', n) as idx:` take x[idx] and y[idx]"
        try:
            sites = self.trace
        except Exception as error:
            raise ProblemError(f"The program fails on a minibatch of {size} rows; {cure}. ({error})") from error
        for name, site in sites.items():
            if site["type"] != "sample" or plate not in {frame.name for frame in site["cond_indep_stack"]}:
                continue
            if not site["is_observed"]:
                raise ProblemError(f"Site '{name}' is latent for each row of plate '{plate}': minibatches cannot be used.")
            axis = next(frame.dim for frame in site["cond_indep_stack"] if frame.name == plate) - len(site["fn"].event_shape)
            if site["value"].shape[axis] != size:
                rows = site["value"].shape[axis]
                raise ProblemError(f"Site '{name}' has {rows} rows in a minibatch of {size}; {cure}.")


class AbstractTraceable(abc.ABC):
    """A program all of whose arguments are arrays that may be traced, as may be numbers of its own.

    Functions compiled for one are shared by those that are equal without their numbers.
    """

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program."""

    @abc.abstractmethod
    def parted(self) -> tuple[AbstractTraceable, Any]:
        """The program without its numbers, and these: a pytree."""

    @abc.abstractmethod
    def filled(self, numbers: Any) -> AbstractTraceable:
        """The program with its numbers again, which may be traced."""


def traceable(program: Program) -> AbstractTraceable | None:
    """The program of a problem where its numbers may be traced, otherwise None."""
    inner = program.program if isinstance(program, WholePlates) else program
    return inner if isinstance(inner, AbstractTraceable) else None


@dataclasses.dataclass(frozen=True)
class WholePlates:
    """A program whose plates have all their rows, whatever `subsample_size` they ask for."""

    program: Program

    @property
    def __wrapped__(self) -> Program:
        """For `inspect.signature`."""
        return self.program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with AllRows():
            return self.program(*args, **kwargs)


class KeyPerName(Messenger):
    """Gives each draw of a program a key derived from its name: this compiles faster than NumPyro's `seed`, which hashes."""

    def __init__(self, program: Program, key: jax.Array) -> None:
        super().__init__(program)
        self.key, self.unnamed = key, 0

    def process_message(self, msg: dict) -> None:
        if msg["type"] not in ("sample", "prng_key", "plate", "control_flow"):
            return
        if msg["kwargs"]["rng_key"] is not None or msg["value"] is not None:
            return
        self.unnamed += "name" not in msg or msg["name"] is None
        msg["kwargs"]["rng_key"] = tagged(self.key, f"{msg['type']} {msg.get('name') or self.unnamed}")


class WithParameters(Messenger):
    """A program with values at its `numpyro.param` sites, and at no other site of the same name."""

    def __init__(self, program: Program, params: Mapping[str, Any]) -> None:
        super().__init__(program)
        self.params = params

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "param" and msg["name"] in self.params:
            msg["value"] = self.params[msg["name"]]


class AllRows(Messenger):
    """See `WholePlates`."""

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate" and msg["value"] is None:
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)


class Subsampled(Messenger):
    """Makes one plate of a program draw a random subset of its indices, or take those given."""

    def __init__(self, program: Program, plate: str, size: int, rows: jax.Array | None = None) -> None:
        super().__init__(program)
        self.plate, self.size, self.rows = plate, size, rows

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate" and msg["name"] == self.plate and self.size < msg["args"][0]:
            self.total = msg["args"][0]
            msg["args"] = (self.total, self.size)
            msg["value"] = self.rows
        if msg["type"] == "sample" and msg["is_observed"] and self.rows is not None:
            self.take_rows(msg, self.rows)

    def take_rows(self, msg: dict, rows: jax.Array) -> None:
        """Takes the batch's rows of values that `Problem.observing` gives, as those are of all rows."""
        dims = [frame.dim for frame in msg["cond_indep_stack"] if frame.name == self.plate]
        if dims:
            axis = jnp.ndim(msg["value"]) + dims[0] - len(msg["fn"].event_shape)
            if msg["value"].shape[axis] == self.total != msg["fn"].shape()[axis]:
                msg["value"] = jnp.take(msg["value"], rows, axis)


def hash_of(traced: Any) -> str:
    """A hash of the operations of a traced function and of the constants in them."""
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(traced)).encode())
    for value in constants(traced):  # the text leaves arrays out
        value = jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value
        digest.update(repr((value.dtype, value.shape)).encode() + np.asarray(value).tobytes())
    return digest.hexdigest()


def constants(traced: Any) -> Iterator[Any]:
    """The arrays in a traced function, those in its inner functions included."""
    if isinstance(traced, ClosedJaxpr):
        yield from filter(is_numeric, traced.consts)
        traced = traced.jaxpr
    for equation in traced.eqns:
        yield from (v.val for v in equation.invars if isinstance(v, Literal) and is_numeric(v.val))
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from constants(value)
            elif is_array(value):
                yield value


def is_numeric(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array)


@contextlib.contextmanager
def finding_a_start(problem: Problem) -> Iterator[None]:
    """Turns NumPyro's failure to find a starting point into one error that says the cure.

    Raises:
        ProblemError: where there is no starting point with a finite log density.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Out-of-support values")  # the error below says it
            yield
    except RuntimeError as error:
        raise ProblemError(no_start_message(problem)) from error


def no_start_message(problem: Problem) -> str:
    return (
        f"No starting point with a finite log density was found for sites {list(problem.latents)}. Check the data for "
        "values that the likelihood cannot produce (NaN, zero scale, wrong support), or give tighter priors."
    )
