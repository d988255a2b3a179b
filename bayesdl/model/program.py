"""Any NumPyro program as a model."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.arguments import Columns, read_argument
from bayesdl.data.frames import same_order
from bayesdl.data.target import Target
from bayesdl.data.validation import ModelError
from bayesdl.model.base import AbstractModel, NewData, Shapes, site_distribution
from bayesdl.model.examples import Example, line, rows
from bayesdl.model.names import is_unseen_part
from bayesdl.model.precision import is_double, precision_scope
from bayesdl.model.programs.finite import check_finite, check_new_finite
from bayesdl.model.programs.held_out import (
    observed_at,
    optional_arguments,
    optional_given,
    value_observed,
    without_data,
)
from bayesdl.model.programs.indexing import check_indexes
from bayesdl.model.programs.new_data import Rows, check_rows, sites_to_draw, with_further_draws
from bayesdl.model.programs.new_rows import sites_drawn_anew, sites_of_other_rows
from bayesdl.model.programs.observations import (
    check_observations,
    check_sites,
    missing_data,
    warn_of_one_event,
)
from bayesdl.model.programs.other_rows import with_order_of_columns
from bayesdl.model.programs.posing import pose, position_names, share_compilation
from bayesdl.model.programs.rows_together import warn_of_left_out, warn_of_rows_together
from bayesdl.model.programs.summed import summed_predictive
from bayesdl.model.registry import register_spec
from inference.arguments import host_array
from inference.core.problem import Problem
from inference.core.program import AbstractTraceable, arguments_of, name_of, signature_of
from inference.core.result import AbstractPredictive, Conditional
from inference.core.typing import Arguments, Key, NewEntries
from inference.wrappers import has_ordered_classes, num_classes, unmasked


@register_spec("ProgramSchema")
@dataclasses.dataclass(frozen=True)
class ProgramSchema:
    """What is remembered about a program's data.

    Attributes:
        observed: the names of the observed sites.
    """

    observed: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TraceableFunction(AbstractTraceable):
    """A NumPyro function of arrays only, so that data sets of one shape share what is compiled."""

    program: Callable

    @property
    def __wrapped__(self) -> Callable:
        """The function whose signature `inspect.signature` reports."""
        return self.program

    @property
    def __name__(self) -> str:
        return name_of(self.program)

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self.program(*args, **kwargs)

    def split_params(self) -> tuple[TraceableFunction, None]:
        return self, None

    def merge_params(self, numbers: object) -> TraceableFunction:
        return self


@dataclasses.dataclass(frozen=True)
class Program(AbstractModel):
    """Any NumPyro program as a model; `bayesdl.fit` also takes the bare function.

    An argument whose default is None is an observation, which predictions leave out, where an
    observed site has its name or its value (shape and content). Any other argument is an input of
    predictions too, such as a covariate `offset=None`. `scipy.sparse` arguments reach the program
    as `jax.experimental.sparse.BCOO` and never become dense.

    Args:
        function: the program.
        site: the observed site to predict; needed where there are several.
        double: whether everything is computed in double precision.
        compile_once: whether fits with other data of the same shape share what is compiled, as in a
            cross-validation. It is for functions that compute with their arguments in JAX alone,
            whatever their types, and read nothing that changes.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> def coin(n, y=None):
        ...     p = numpyro.sample("p", dist.Beta(1, 1))
        ...     numpyro.sample("y", dist.Binomial(n, p), obs=y)
        >>> Program(coin).function.__name__
        'coin'
    """

    function: Callable
    site: str | None = None
    double: bool = False
    compile_once: bool = False
    holds_code: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        X, y = rows()
        return (Example("any NumPyro program", cls(line), (X[:, 0],), {"y": y}),)

    @property
    def name(self) -> str:
        return name_of(self.function)

    @property
    def double_precision(self) -> bool:
        return self.double

    def in_double(self) -> Program:
        return dataclasses.replace(self, double=True)

    def simulator(self, num_classes: int) -> tuple[Callable, int]:
        # compiled anew: what the function reads (global variables) may have changed
        return functools.partial(self.function), 0

    def for_simulated_data(self) -> Program:
        return dataclasses.replace(self, function=TraceableFunction(self.function))

    def learn_schema(self, *data: object, **named: object) -> ProgramSchema:
        return self.learn(*data, **named)[0]

    def learn(self, *data: object, **named: object) -> tuple[ProgramSchema, Problem]:
        # a program runs once, for both
        problem = self.problem(ProgramSchema(()), *data, **named)
        check_sites(problem)
        check_observations(problem)
        check_indexes(problem)
        check_finite(problem)
        return ProgramSchema(problem.observed), problem

    def problem(self, schema: ProgramSchema, *data: object, **named: object) -> Problem:
        return self.build_problem(schema, *self.inputs(schema, *data, **named))

    def build_problem(self, schema: ProgramSchema, args: tuple, kwargs: dict) -> Problem:
        # arrays of a file are plain ones
        args, kwargs = jax.tree.map(
            lambda leaf: host_array(leaf) if type(leaf) is np.ndarray else leaf,
            (args, kwargs),
            is_leaf=lambda leaf: isinstance(leaf, Columns),
        )
        problem = pose(self.function, args, kwargs, compiled=not self.compile_once)
        return share_compilation(problem) if self.compile_once else problem

    def inputs(self, schema: ProgramSchema, *data: object, **named: object) -> tuple[tuple, dict]:
        self.bind(data, named)
        double, names = is_double(self), position_names(self.function, len(data))
        same_order(dict(zip(names, data, strict=True)) | named)
        return (
            tuple(read_argument(*one, double) for one in zip(names, data, strict=True)),
            {name: read_argument(name, value, double) for name, value in named.items()},
        )

    def bind(self, args: Arguments, kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return the arguments by the names of the function's parameters.

        Raises:
            ModelError: where the arguments do not fit the function.
        """
        signature = signature_of(self.function)
        try:
            return signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ModelError(f"The arguments do not fit {self.name}{signature}: {error}.") from None

    def training_inputs(self, problem: Problem) -> tuple[tuple, dict]:
        """Return the training arguments without the observations, if the program runs so."""
        unseen = without_data(problem)
        return unseen.args, dict(unseen.kwargs)

    def check_new_data(
        self,
        problem: Problem,
        args: Arguments,
        kwargs: dict,
        drawn: Callable[[], Shapes],
        sample: bool,
    ) -> NewData:
        site = self.target_site(problem)
        args, kwargs = with_order_of_columns(problem, args, kwargs)
        new = pose(self.function, args, kwargs, compiled=False)
        whole, shapes = Rows.of(problem, site), drawn()
        rows = whole.following(new, site)
        others = sites_of_other_rows(problem, rows, new, shapes, site)
        unseen = frozenset(n for n in new.unobserved if is_unseen_part(problem.trace, n))
        expected = without_data(problem).unobserved
        further = sites_to_draw(problem, expected, new, shapes, sample, others | unseen)
        check_indexes(new, problem)
        check_rows(whole, new, site)
        anew = sites_drawn_anew(others, problem, rows, new, shapes, site, sample)
        warn_of_rows_together(problem, rows, site)
        warn_of_left_out(problem, new, site)
        check_new_finite(new, site)
        entries = NewEntries(further, (*anew, *sorted(unseen)))
        return NewData(new.args, dict(new.kwargs), entries)

    def remarks(self, problem: Problem) -> list[str]:
        return missing_data(problem, optional_arguments(self.function))

    def target_site(self, problem: Problem) -> str:
        """Return the name of the observed site that is predicted.

        Raises:
            ModelError: where there is none, or more than one and none is chosen.
        """
        observed = problem.observed
        if self.site is not None and self.site in problem.trace:
            return self.site
        if len(observed) == 1 and self.site is None:
            return observed[0]
        if not observed:
            raise ModelError(
                "The program observes nothing (factors are no data), so there is no site to "
                "predict: give the observations in bdl.fit, as numpyro.sample(..., obs=...). "
                "post.samples has the draws."
            )
        raise ModelError(
            f"The program observes sites {list(observed)}, and one must be predicted: "
            f"got site={self.site!r}, expected one of them, as in post.predict(site=...), or "
            "bdl.Program(function, site=...)."
        )

    def at_site(self, problem: Problem, site: str) -> Program:
        if site not in problem.observed:
            # what obs_mask calls the seen part of a site
            seen = f"{site}_observed"
            if seen not in problem.observed:
                raise ModelError(
                    f"No observed site {site!r}: expected one of {list(problem.observed)}."
                )
            site = seen
        return dataclasses.replace(self, site=site)

    def predicts_one(self, problem: Problem) -> bool:
        return self.site is not None or len(problem.observed) == 1

    def takes(self, name: str) -> bool:
        return name in signature_of(self.function).parameters

    def target_title(self, problem: Problem) -> str:
        """Return the argument that holds the observations, where that is plain."""
        names = list(optional_given(problem))
        alone = len(names) == len(problem.observed) == 1
        return names[0] if alone and names[0] not in problem.trace else ""

    def with_target_site(self, problem: Problem) -> Program:
        """Return the program with its site; without data it is the one that an argument names."""
        if self.site is not None or problem.observed:
            return self
        candidates = [
            name for name in problem.unobserved if name in optional_arguments(self.function)
        ]
        if len(candidates) != 1:
            raise ModelError(
                f"Which of the sites {list(problem.unobserved)} is the target cannot be told: give "
                "the observations as in bdl.fit, or say bdl.Program(function, site=...)."
            )
        return dataclasses.replace(self, site=candidates[0])

    def target(self, schema: ProgramSchema, problem: Problem) -> Target:
        site = self.target_site(problem)
        distribution = problem.trace[site]["fn"]
        if classes := num_classes(distribution):
            ordered = has_ordered_classes(distribution)
            return Target((site,), "class", True, tuple(range(classes)), (0.0,), (1.0,), ordered)
        kind = "count" if distribution.support.is_discrete else "real"
        return Target((site,), kind, True, None, (0.0,), (1.0,))

    def inputs_and_target(
        self, problem: Problem, *data: object, **named: object
    ) -> tuple[tuple, dict, Any]:
        site, given = self.target_site(problem), self.bind(data, named)
        names = list(given.arguments)
        held_out = {
            at: given.arguments.pop(name)
            for name, at in observed_at(problem).items()
            if name in names
        }
        if held_out.get(site) is None:
            raise ModelError(
                f"Which of {names} is the target of site '{site}' cannot be told: score takes the "
                "data as fit does, with the observation in an argument whose default is None."
            )
        with precision_scope(self):
            whole = self.inputs(ProgramSchema(()), *data, **named)
            posed = pose(self.function, *whole, compiled=False)
            check_new_finite(posed, site)
            check_observations(posed, quiet=True)
            return given.args, given.kwargs, value_observed(posed, site, held_out[site])

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        site = self.target_site(problem)
        warn_of_one_event(problem, site)
        if not problem.summed:
            return SitePredictive(problem.program, site, Rows.of(problem, site))
        return summed_predictive(problem, site)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SitePredictive(AbstractPredictive):
    """The distribution of one site of a program.

    Attributes:
        program: the program.
        site: the name of the site.
        rows: the rows of the site at the training data.
        entries: the latent sites that have entries without draws.
    """

    program: Callable = dataclasses.field(metadata={"static": True})
    site: str = dataclasses.field(metadata={"static": True})
    rows: Rows = dataclasses.field(metadata={"static": True})
    entries: NewEntries = dataclasses.field(default=NewEntries(), metadata={"static": True})

    def with_new_entries(self, entries: NewEntries) -> SitePredictive:
        return dataclasses.replace(self, entries=entries)

    def __call__(self, latents: dict, key: Key, *args: object, **kwargs: object) -> Conditional:
        program, rest = with_further_draws(self.program, self.entries, latents, key)
        distribution = site_distribution(program, self.site, rest, key, args, kwargs)
        # new rows are not hidden by a mask
        distribution = unmasked(distribution)
        given = arguments_of(self.program, args, kwargs)
        distribution = self.rows.expand(distribution, given)
        return Conditional(distribution, jnp.zeros(distribution.batch_shape))


def as_model(model: object) -> AbstractModel:
    """Return a model as it is, and a bare NumPyro function as a `Program`.

    Raises:
        ModelError: for anything else.
    """
    if isinstance(model, AbstractModel):
        return model
    if inspect.isclass(model):
        raise ModelError(
            f"Expected a model, got the class {model.__name__}: make one, "
            f"e.g. bdl.{model.__name__}()."
        )
    if callable(model):
        return Program(model)
    raise ModelError(
        "Expected a model such as bdl.BNN(), bdl.GP() or a NumPyro function, "
        f"got {type(model).__name__}."
    )
