"""E[objective], as a function whose value and whose derivative in the parameters are both unbiased.

An objective is a Python function of two handles, the model p and the guide q, that draws from them and evaluates them.
Its expectation is resolved site by site: the first site whose gradient does not pass through its value is outermost, and
the rest of the program, run again with that site overridden, is the k of its estimator (`estimators.py` has the formulas).
By the tower property the whole is unbiased if every estimator is so for an unbiased k.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state
from jax.lax import stop_gradient as sg
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.distributions import ImproperUniform
from numpyro.infer.initialization import init_to_sample

from inference.keys import named
from inference.problem import ProblemError, Program
from inference.vi.estimators import MVD, AbstractEstimator, Enum, EstimatorError, Reinforce, stripped
from inference.vi.programs import Call, Outcome, Site, run

PARTICLES = "bayesdl particles"  # the axis of independent estimates
CURRENT: contextvars.ContextVar[Pass] = contextvars.ContextVar("pass")
LEAK = (
    "A sample statement is inside jax.jit, jax.vmap, lax.scan or lax.cond, where its draw cannot be seen: use numpyro.plate, "
    "numpyro.contrib.control_flow.scan or cond in programs, and q.sim(K) or a vmap of the whole expectation for several draws."
)


class Pass:
    """One run of an objective: what it was given, and what it drew.

    Args:
        call: arguments, parameters, keys and estimators.
        step: of the optimiser, for schedules.
        overrides: values of sites by id.
        swaps: for draws made side by side, by group, which of them stands in each place.
    """

    def __init__(self, call: Call, step: Any, overrides: Mapping[str, jax.Array], swaps: Mapping[str, jax.Array]) -> None:
        self.call, self.step, self.overrides, self.swaps = call, step, overrides, swaps
        self.number = 0
        self.sites: list[Site] = []
        self.scores: list[jax.Array] = []
        self.costs: list[tuple[int, jax.Array]] = []
        self.auxiliary: set[str] = set()
        self.drawn: set[str] = set()
        self.programs: list[tuple[Program, tuple]] = []
        self.began = get_opaque_trace_state()
        self.inside = False

    def next(self) -> str:
        """The label of the next draw."""
        self.number += 1
        return f"draw {self.number}"

    def run(
        self,
        program: Program,
        label: str,
        given: Mapping[str, Any] = {},
        lanes: tuple[int, ...] = (),
        inputs: tuple = (),
        group: str | None = None,
        detached: bool = False,
        fixed: bool = False,
    ) -> Outcome:
        """Runs a program; see `programs.run`.

        Args:
            program: as there.
            label: as there.
            given: as there.
            lanes: as there.
            inputs: as there.
            group: as there.
            detached: whether gradients pass neither through draws nor through their estimators.
            fixed: whether parameters are constants.
        """
        self.programs.append((program, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[len(lanes) :], leaf.dtype), inputs)))
        call = dataclasses.replace(self.call, params=sg(self.call.params)) if fixed else self.call
        prefix = f"{label}/"
        overrides = {id.removeprefix(prefix): value for id, value in self.overrides.items() if id.startswith(prefix)}
        self.inside = True
        outcome = run(program, call, label, given, overrides, lanes, inputs, group)
        self.inside = False
        if outcome.drawn and get_opaque_trace_state() != self.began:
            raise EstimatorError(LEAK)  # one key for all lanes of the objective's own vmap or loop
        self.auxiliary.update(outcome.auxiliary)
        self.drawn.update(outcome.drawn)
        if detached:
            return dataclasses.replace(outcome, values=sg(outcome.values), log_probs=sg(outcome.log_probs), sites=())
        self.sites.extend(outcome.sites)
        if outcome.sticking:
            again = run(program, call, label, sg(outcome.values), {}, lanes, sg(inputs), group)
            score = sum((again.log_probs[name].mean() for name in outcome.sticking), jnp.zeros(()))
            self.scores.append(score - sg(score))
        return outcome

    def total(self, value: jax.Array) -> jax.Array:
        """The objective with the costs that were added and the scores of `Reparam(stick=True)`."""
        return value + sum(cost for _, cost in self.costs) + sum(self.scores)

    def before(self, site: Site) -> jax.Array:
        """The costs that were added before a site was drawn."""
        at = self.sites.index(site)
        return sum((sg(cost) for count, cost in self.costs if count <= at), jnp.zeros(()))


def current() -> Pass:
    """The run of an objective that is going on.

    Raises:
        ProblemError: outside an objective.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise ProblemError(
            "sim, density and add_cost are for objectives: pass the objective to bdl.vi.expectation(objective, model, guide) "
            "or bdl.VI(objective=...), which call it."
        ) from None


@contextlib.contextmanager
def running(one: Pass) -> Iterator[Pass]:
    token = CURRENT.set(one)
    try:
        yield one
    finally:
        CURRENT.reset(token)


def where_improper(site: dict) -> Any:
    """A value for a site whose prior has no sampler."""
    improper = site["type"] == "sample" and isinstance(stripped(site["fn"]), ImproperUniform)
    return init_to_sample(site) if improper else None


def add_cost(cost: ArrayLike) -> None:
    """Adds a scalar to the objective at this point of it; sites drawn later leave it out of their score terms.

    Raises:
        ProblemError: outside an objective.
    """
    now = current()
    if now.inside:
        raise ProblemError("add_cost is for objectives, not for the programs that they draw from.")
    now.costs.append((len(now.sites), jnp.asarray(cost)))


def step() -> Any:
    """The number of the optimiser's step, 0 outside an optimisation; for schedules of beta or temperature."""
    return current().step


@dataclasses.dataclass(frozen=True, eq=False)
class Expectation:
    """The expectation of an objective; made by `expectation`.

    Attributes:
        objective: a function of (p, q).
        p, q: handles of the model and the guide.
        estimators: by site name.
        num_particles: independent estimates that are averaged.
    """

    objective: Callable[[Any, Any], jax.Array]
    p: Any
    q: Any
    estimators: Mapping[str, AbstractEstimator]
    num_particles: int

    def __call__(self, key: jax.Array, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> jax.Array:
        """An unbiased estimate, whose derivative in `params` is unbiased too.

        Args:
            key: of the draws.
            params: values of the `numpyro.param` sites of model and guide, in their own (constrained) space.
            *args: of the model and the guide.
            **kwargs: of the model and the guide.

        Exceptions, by intention: particles of `normalize` are detached, so that the wake objectives have the gradient of
        reweighted wake-sleep, and parameters of baselines have that of least squares.

        Raises:
            EstimatorError: where a site cannot have its estimator.
        """
        return self.at_step(0, key, params, args, kwargs)

    def at_step(self, step: Any, key: jax.Array, params: Mapping[str, Any], args: tuple, kwargs: dict) -> jax.Array:
        """The same at a step of the optimiser."""
        if self.num_particles == 1:
            return self.one(step, params, args, kwargs, key)
        one = functools.partial(self.one, step, params, args, kwargs)
        return jax.vmap(one, axis_name=PARTICLES)(jax.random.split(key, self.num_particles)).mean()

    def raw(self, key: jax.Array, params: Mapping[str, Any], args: tuple, kwargs: dict) -> Any:
        """What the objective gives in one run, of any shape and without estimators."""
        with running(Pass(self.call(key, params, args, kwargs), 0, {}, {})):
            return self.objective(self.p, self.q)

    def call(self, key: jax.Array, params: Mapping[str, Any], args: tuple, kwargs: dict) -> Call:
        """How the programs are run."""
        return Call(args, kwargs, dict(params), self.estimators, key)

    def rows(self, key: jax.Array, params: Mapping[str, Any], *data: Any) -> jax.Array:
        """The mean over rows of data (leading axes of the arrays) of the expectation at each, with one reverse pass for all."""
        keys = jax.random.split(key, len(jax.tree.leaves(data)[0]))
        return jax.vmap(lambda key, row: self(key, params, *row))(keys, data).mean()

    def one(self, step: Any, params: Any, args: tuple, kwargs: dict, key: jax.Array) -> jax.Array:
        """One estimate."""
        try:
            return Resolver(self, self.call(key, params, args, kwargs), step).estimate()
        except jax.errors.UnexpectedTracerError as error:
            raise EstimatorError(LEAK) from error

    def run(self, call: Call, step: Any, overrides: Mapping = {}, swaps: Mapping = {}) -> tuple[Pass, jax.Array]:
        """One run of the objective and its value."""
        with running(Pass(call, step, overrides, swaps)) as now:
            value = jnp.asarray(self.objective(self.p, self.q))
            if value.shape:
                raise ProblemError(f"The objective gave an array of shape {value.shape}: expected a scalar.")
            return now, now.total(value)

    def sites(self, key: jax.Array, *args: Any, **kwargs: Any) -> dict[str, dict]:
        """The `numpyro.param` sites of all programs that the objective runs, learned baselines included."""
        call = Call(args, kwargs, None, self.estimators, key)
        seen: list[Pass] = []
        try:
            jax.eval_shape(lambda: seen.append(self.run(call, 0)[0]))
        except jax.errors.UnexpectedTracerError as error:
            raise EstimatorError(LEAK) from error
        baselines = {site: getattr(site.estimator, "baseline", None) for site in seen[0].sites}
        learned = [(b, ()) for b in baselines.values() if callable(b)]
        found = started(seen[0].programs, key, args, kwargs)
        fits = started(learned, key, args, kwargs)
        if set(fits) & set(found):
            raise EstimatorError(f"Parameter '{sorted(set(fits) & set(found))[0]}' is a baseline's and a program's; rename it.")
        averages = [average_name(site) for site, baseline in baselines.items() if baseline == "average"]
        fits |= {name: {"value": jnp.zeros(()), "kwargs": {}} for name in averages}
        return found | {name: site | {"baseline": True} for name, site in fits.items()}

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The parameters at the values that the programs start them with."""
        return {name: site["value"] for name, site in self.sites(key, *args, **kwargs).items()}


def started(programs: list[tuple[Program, tuple]], key: jax.Array, args: tuple, kwargs: dict) -> dict[str, dict]:
    """The `numpyro.param` sites of programs, with the values that they start them with."""
    found: dict[str, dict] = {}

    @jax.jit
    def values() -> dict[str, Any]:  # compiled, so that only what gives the parameters is computed
        for program, inputs in programs:
            seeded = handlers.substitute(handlers.seed(program, key), substitute_fn=where_improper)
            trace = handlers.trace(seeded).get_trace(*inputs, *args, **kwargs)
            found.update({name: site for name, site in trace.items() if site["type"] == "param" and name not in found})
        return {name: site["value"] for name, site in found.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # improper priors say that they have no sampler
        return {name: found[name] | {"value": value} for name, value in values().items()}


class Resolver:
    """Turns runs of an objective into one estimate."""

    def __init__(self, expectation: Expectation, call: Call, step: Any) -> None:
        self.expectation, self.call, self.step = expectation, call, step

    def estimate(self) -> jax.Array:
        ran = self.again({}, {})
        unknown = set(self.call.estimators) - ran[0].drawn
        if unknown:
            raise EstimatorError(f"estimators: no site '{sorted(unknown)[0]}' is drawn, only {sorted(ran[0].drawn)}.")
        return self.after(ran, frozenset(), only_value=False)

    def again(self, overrides: Mapping, swaps: Mapping) -> tuple[Pass, jax.Array]:
        return self.expectation.run(self.call, self.step, overrides, swaps)

    def after(self, ran: tuple[Pass, jax.Array], done: frozenset[str], only_value: bool) -> jax.Array:
        """The estimate of what a run's remaining sites leave open.

        Args:
            ran: the run and its value.
            done: ids of the sites that are resolved.
            only_value: whether no derivative is wanted, so that only `Enum` has anything to do.
        """
        now, value = ran
        site = next((site for site in now.sites if site.id not in done), None)
        if site is None:
            return value
        rest = done | {site.id}

        def here() -> jax.Array:
            return self.after(ran, rest, only_value)

        def at(value: jax.Array, only_value: bool = only_value) -> jax.Array:
            return self.after(self.again({**now.overrides, site.id: value}, now.swaps), rest, only_value)

        def swapped(places: jax.Array) -> jax.Array:
            assert site.group is not None
            return self.after(self.again(now.overrides, {**now.swaps, site.group: places}), rest, True)

        if isinstance(site.estimator, Enum):
            return summed(site, at)
        if only_value:
            return here()
        if isinstance(site.estimator, MVD):
            return replaced(site, here(), functools.partial(at, only_value=True))
        assert isinstance(site.estimator, Reinforce)
        return self.scored(site, site.estimator.baseline, here(), now.before(site), swapped)

    def scored(self, site: Site, baseline: Any, k: jax.Array, costs: jax.Array, swapped: Callable) -> jax.Array:
        """K + sg(k - b) (log q - sg log q), see `estimators.Reinforce`."""
        log_q = site.extras["log_q"]
        if baseline == "loo" and site.group is not None and site.lanes[0] > 1:
            log_q = log_q.reshape(site.lanes[0], -1).sum(1)
            gain = sg(k - leave_one_out(site.lanes[0], swapped))
            return k + jnp.sum(gain * (log_q - sg(log_q)))
        log_q, fit = log_q.sum(), jnp.zeros(())
        if baseline == "loo" and self.expectation.num_particles > 1:
            many = self.expectation.num_particles
            b = (jax.lax.psum(sg(k), PARTICLES) - sg(k)) / (many - 1)
        elif baseline == "average" or callable(baseline):
            b = self.learned(site, baseline)
            fit = -((b - sg(k - costs)) ** 2) / 2
            b = b + costs
        else:
            b = costs + (0.0 if baseline in (None, "loo") else baseline)
            if baseline in (None, "loo"):
                warn_without_baseline(site)
        return k + sg(k - b) * (log_q - sg(log_q)) + fit - sg(fit)

    def learned(self, site: Site, baseline: Any) -> jax.Array:
        """A baseline with parameters; its own gradient is that of least squares, and the objective's leaves it alone."""
        params = self.call.params or {}
        if baseline == "average":
            return params.get(average_name(site), jnp.zeros(()))
        program: Any = handlers.substitute(handlers.seed(baseline, named(self.call.key, site.id)), data=params)
        return jnp.reshape(program(*self.call.args, **self.call.kwargs), ())


def summed(site: Site, at: Callable) -> jax.Array:
    """sum_v q(v) k(v) over all values of all elements of a site."""
    lanes = len(site.lanes)
    states = jnp.moveaxis(site.extras["states"], lanes, 0)
    table = jnp.moveaxis(site.extras["log_q"], lanes, 0)
    count, elements = len(states), table[0].size
    grid = jnp.stack(jnp.meshgrid(*[jnp.arange(count)] * elements, indexing="ij"), -1).reshape(-1, elements)

    def one(index: jax.Array) -> jax.Array:
        index = index.reshape(1, *table.shape[1:])
        value = jnp.take_along_axis(states, index.reshape(*index.shape, *(1,) * site.event_dim), 0)[0]
        weight = jnp.exp(jnp.take_along_axis(table, index, 0).sum())
        return weight * at(value)

    return jax.vmap(one)(grid).sum()


def replaced(site: Site, k: jax.Array, at: Callable) -> jax.Array:
    """K + sum_j (c_j - sg c_j) sg(k(x_j) - k), one element replaced at a time; see `estimators.MVD`."""
    lanes, shape = len(site.lanes), site.value.shape[: site.value.ndim - site.event_dim]
    values = jnp.moveaxis(site.extras["values"], lanes, 0)
    coefficients = jnp.moveaxis(site.extras["coefficients"], lanes, 0)
    kinds, event = len(values), site.value.shape[len(shape) :]
    elements = coefficients[0].size
    flat = site.value.reshape(elements, *event)
    values, coefficients = values.reshape(kinds, elements, *event), coefficients.reshape(kinds, elements)

    def one(j: jax.Array, i: jax.Array) -> jax.Array:
        return at(flat.at[i].set(values[j, i]).reshape(site.value.shape))

    kind, element = jnp.meshgrid(jnp.arange(kinds), jnp.arange(elements), indexing="ij")
    others = sg(jax.vmap(one)(kind.ravel(), element.ravel()))
    return k + jnp.sum((coefficients.ravel() - sg(coefficients.ravel())) * (others - sg(k)))


def leave_one_out(many: int, swapped: Callable) -> jax.Array:
    """For each of K draws the mean over the others of the objective with the draw overwritten by that one, shape (K,)."""
    place, other = jnp.meshgrid(jnp.arange(many), jnp.arange(1, many), indexing="ij")
    place, other = place.ravel(), ((place + other) % many).ravel()

    def one(place: jax.Array, other: jax.Array) -> jax.Array:
        return swapped(jnp.arange(many).at[place].set(other))

    return sg(jax.vmap(one)(place, other).reshape(many, many - 1).mean(1))


def average_name(site: Site) -> str:
    """The parameter that holds the moving average of a site's baseline."""
    return f"baseline/{site.id}"


def warn_without_baseline(site: Site) -> None:
    name = site.id.partition("/")[2]
    warnings.warn(
        f"Site '{name}' has Reinforce without a baseline, whose variance is large: draw several with q.sim(K) or num_particles "
        "above 1, or take Reinforce('average'), Enum() or MVD().",
        stacklevel=2,
    )


def expectation(
    objective: Callable[[Any, Any], jax.Array],
    model: Any,
    guide: Any,
    *,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    num_particles: int = 1,
) -> Expectation:
    """E[objective(model, guide)] as a function E(key, params, *data) with unbiased value and unbiased `jax.grad`.

    Take the mean over data before the derivative, as `E.rows` does: per-row gradients are many times slower.

    Args:
        objective: a function of handles (p, q) that gives a scalar, such as `elbo`.
        model: a NumPyro program, called with the data.
        guide: a NumPyro program that draws the latent sites of the model, or a `marginal` of one; called with the same data.
        estimators: by site name; others have that of their `infer={"estimator": ...}`, or the default.
        num_particles: independent estimates that are averaged; leave-one-out baselines can use them.

    Example:
        >>> import jax, numpyro, numpyro.distributions as dist
        >>> def model(y):
        ...     z = numpyro.sample("z", dist.Bernoulli(0.3))
        ...     numpyro.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)
        >>> def guide(y):
        ...     numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.0)))
        >>> from inference.vi.objectives import elbo
        >>> E = expectation(elbo, model, guide)  # one flip: summed over both values
        >>> print(f"{jax.grad(lambda phi: E(jax.random.key(0), {'phi': phi}, 1.5))(0.0):.3f}")
        0.038
    """
    from inference.vi.handles import as_handle

    return Expectation(objective, as_handle(model), as_handle(guide), dict(estimators or {}), num_particles)
