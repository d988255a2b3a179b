"""Matching the prior of a network to functions: the front door, and the optimiser.

    minimise over psi   D(f, g) + pull E|g - g'| |psi - psi_0|^2,   f = f(X; w), w ~ p(w; psi),   g ~ target at X

by Adam on unconstrained psi, with new points X and new functions at each step. The weak pull towards the numbers one begins
with settles directions along which functions hardly change, such as ever larger weights of ever sharper units.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.networks import MLP, check_num_outputs
from bayesdl.bnn.spec import BNN
from bayesdl.data.columns import Columns
from bayesdl.data.validation import ModelError
from bayesdl.functional.draws import FunctionSampler
from bayesdl.functional.dual import wasserstein
from bayesdl.functional.losses import LOSSES, mean_distance
from bayesdl.functional.measure import PointSampler
from bayesdl.functional.nngp import warm_start
from bayesdl.functional.report import PriorReport, compare_functions
from bayesdl.functional.targets import AbstractTarget, as_target
from bayesdl.priors import LayerGaussian, LayerHierarchical, Spectral
from bayesdl.priors.base import count_layers
from bayesdl.priors.family import AbstractFamily
from inference.core.keys import named_key, tagged_key
from inference.core.progress import AbstractProgress, as_progress

BLOCK = 20  # steps compiled together
WASSERSTEIN = "wasserstein"
HELD_OUT, FEWEST = 0.2, 50  # share of rows for the report, where there are so many
CHECKED = 500  # functions for the report
WARM_POINTS, WARM_FUNCTIONS = 50, 512


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Of the optimiser."""

    loss: str
    num_functions: int
    steps: int
    learning_rate: float
    pull: float


def match_prior(
    model: Any,
    *,
    to: Any,
    inputs: Any,
    family: Any = None,
    loss: str = "energy",
    steps: int = 200,
    num_functions: int = 128,
    num_points: int | None = None,
    real: float = 0.7,
    pad: float = 0.0,
    num_targets: int = 1,
    learning_rate: float = 0.1,
    pull: float = 1e-4,
    start_wide: bool = False,
    seed: int = 0,
    progress: Any = True,
) -> Any:
    """Tunes the numbers of a weight prior until the functions that the network draws look like the target's.

    Args:
        model: whose network is meant; its likelihood and its prior (unless a family of `bayesdl.priors`) do not matter.
        to: what is expected of functions: `bdl.GP(kernel)`, a kernel of bayesdl, tinygp or GPyTorch, a GP model of GPyTorch, or
            a function (key, X, num) -> functions, shape (num, points) or (num, points, outputs). A GP's hyperparameters that
            have priors are drawn anew for each function (those of GPyTorch must be fixed). Length scales are in standard
            deviations of the input columns, the variance in squared ones of the targets, unless standardize=False. Families
            have one scale for all inputs: a length scale per input is matched on average, so rescale the columns instead.
        inputs: training inputs, as for `bdl.fit`; no targets are needed.
        family: `LayerGaussian()`, `LayerHierarchical()` or `ScaleFlow()`; None for the model's own prior where it is one of
            these, otherwise `LayerGaussian()`. The numbers it has are where matching starts.
        loss: "energy", "sliced_w2", "bures", or "wasserstein", the published dual, for comparison.
        steps: of the optimiser.
        num_functions: drawn of each side per step.
        num_points: at which functions are compared; None for 100, or fewer where there are fewer rows. With one input they are
            a fixed grid over the inputs' range; otherwise new ones at each step.
        real: share of the points that are rows of inputs; the others are uniform in the box around them.
        pad: by which the box, or the grid, is larger on each side, as a share of its width.
        num_targets: target columns, or classes; all outputs are matched jointly.
        learning_rate: Adam's at the start; it decays to zero along a cosine.
        pull: weight of the squared distance from the family's numbers, as logarithms, in units of the
            target's spread; 0 for none.
        start_wide: start with the scales whose wide-network kernel is nearest to the target's covariance (perceptrons with
            layer-wise families only); this needs no draws of networks.
        seed: of all draws.
        progress: whether to show a bar.

    Returns:
        The matched prior, plain numbers per layer: `model.with_prior(prior)` is fitted, saved and loaded like any model.

    Raises:
        ModelError: where target, family and network do not go together.
        DataError: for inputs that cannot be used.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-3, 3, 50)[:, None]
        >>> gp = bdl.GP(bdl.kernels.RBF(lengthscale=2.0, variance=1.0))
        >>> prior = match_prior(bdl.BNN(hidden=(20,)), to=gp, inputs=x, steps=60, progress=False)
        >>> len(prior.weight)
        2
    """
    setting = MatchingProblem.from_model(model, to, inputs, num_targets)
    family = resolve_family(model, family)
    settings = optimizer_config(loss, steps, num_functions, learning_rate, pull)
    rng = np.random.default_rng(seed)
    train, held = setting.split_rows(rng)
    measure = PointSampler.from_rows(train, num_points, real, pad)
    shown, key = as_progress(progress), jax.random.key(seed)
    drawn, origin = FunctionSampler.from_prior(setting.net, setting.arrays, family)
    start = origin
    if start_wide:
        start = start_from_wide_network(
            setting, family, measure.draw(rng, 1)[0], named_key(key, "wide")
        ).parameters()
    parameters = optimise(
        settings, drawn, origin, start, setting.target, measure, rng, named_key(key, "steps"), shown
    )
    prior = family.with_params(parameters).as_floats()
    points = PointSampler.from_rows(held, num_points if held is train else None, real, pad).draw(
        rng, 1
    )[0]
    report = compare_functions(setting, prior, points, CHECKED, seed)
    shown.note(report.line)
    if not report.close:
        warnings.warn(f"The matched prior is not near the target. {report.line}", stacklevel=2)
    return prior


def prior_report(
    model: Any,
    *,
    to: Any,
    inputs: Any,
    at: Any = None,
    num_functions: int = 1000,
    num_points: int | None = None,
    real: float = 0.7,
    pad: float = 0.0,
    num_targets: int = 1,
    seed: int = 1,
) -> PriorReport:
    """How the functions of a model's prior differ from a target's.

    Args:
        model: with any prior, matched or not.
        to: as for `match_prior`.
        inputs: training inputs, which give the units.
        at: rows at which to compare, best ones that were not matched on; None for the training inputs.
        num_functions: drawn of each side.
        num_points: as for `match_prior`.
        real: as there.
        pad: as there.
        num_targets: as there.
        seed: of all draws.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-3, 3, 50)[:, None]
        >>> gp = bdl.GP(bdl.kernels.RBF(lengthscale=0.8, variance=1.0))
        >>> prior_report(bdl.BNN(hidden=(20,)), to=gp, inputs=x, num_functions=200).close
        False
    """
    setting = MatchingProblem.from_model(model, to, inputs, num_targets)
    rows = setting.rows if at is None else setting.columns.read(at)
    points = PointSampler.from_rows(rows, num_points, real, pad).draw(
        np.random.default_rng(seed), 1
    )[0]
    return compare_functions(setting, model.prior, points, num_functions, seed)


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingProblem:
    """A network, its inputs and a target.

    Attributes:
        columns: of the inputs.
        rows: as the network sees them.
        net: the network.
        arrays: its arrays of weights.
        target: of the functions.
        num_outputs: of network and target.
    """

    columns: Columns
    rows: np.ndarray
    net: Any
    arrays: tuple
    target: AbstractTarget
    num_outputs: int

    @classmethod
    def from_model(cls, model: Any, to: Any, inputs: Any, num_targets: int) -> MatchingProblem:
        if not isinstance(model, BNN):
            raise ModelError(
                f"Expected a bdl.BNN, whose weights have a prior, got {type(model).__name__}."
            )
        columns = Columns.learn(inputs, model.standardize)
        rows = columns.read(inputs)
        num_outputs = model.likelihood.num_outputs(num_targets)
        if num_outputs != num_targets:
            raise ModelError(
                f"{model.likelihood} has {num_outputs} outputs for {num_targets} targets, of which some are not functions "
                "to be matched: match the network with bdl.Normal(), and give the prior to this model."
            )
        arrays = model.net.weight_arrays(len(columns.scale), num_outputs)
        check_num_outputs(model.net, arrays, rows, num_outputs, f"num_targets={num_targets}")
        width = int(np.prod(rows.shape[1:]))
        target = as_target(to, width, num_outputs, model.standardize)
        model.prior.check(count_layers(arrays), model.net.activation)
        return cls(columns, rows, model.net, arrays, target, num_outputs)

    def split_rows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows to match on, and rows to report on: others, where there are enough."""
        if len(self.rows) < FEWEST or self.rows.shape[1:] == (1,):
            return self.rows, self.rows
        order = rng.permutation(len(self.rows))
        held = int(HELD_OUT * len(self.rows))
        return self.rows[order[held:]], self.rows[order[:held]]


def resolve_family(model: BNN, family: Any) -> AbstractFamily:
    """The prior to tune.

    Raises:
        ModelError: where it has nothing to tune.
    """
    if family is None:
        return model.prior if isinstance(model.prior, AbstractFamily) else LayerGaussian()
    if isinstance(family, type):
        raise ModelError(f"family={family.__name__}: brackets are missing, {family.__name__}().")
    if isinstance(family, Spectral):
        raise ModelError(
            "Spectral follows its kernel without matching: take model.with_prior(bdl.priors.Spectral(kernel)), and "
            "bdl.prior_report to see how near it is at this width."
        )
    if not isinstance(family, AbstractFamily):
        raise ModelError(
            f"family={family!r} cannot be matched: expected LayerGaussian(), LayerHierarchical() or ScaleFlow() of bdl.priors."
        )
    return family


def optimizer_config(
    loss: str, steps: int, num_functions: int, learning_rate: float, pull: float
) -> OptimizerConfig:
    """The settings, refused where they make no sense."""
    if loss not in (*LOSSES, WASSERSTEIN):
        raise ModelError(
            f"loss={loss!r}: expected one of {', '.join(map(repr, (*LOSSES, WASSERSTEIN)))}."
        )
    for name, value, least in (("steps", steps, 1), ("num_functions", num_functions, 2)):
        if not isinstance(value, int) or value < least:
            raise ModelError(f"{name}={value!r}: expected a whole number, at least {least}.")
    if not learning_rate > 0:
        raise ModelError(f"learning_rate={learning_rate!r}: expected a positive number.")
    if not pull >= 0:
        raise ModelError(f"pull={pull!r}: expected a number of at least 0.")
    return OptimizerConfig(loss, num_functions, steps, learning_rate, pull)


def start_from_wide_network(
    setting: MatchingProblem, family: Any, points: np.ndarray, key: jax.Array
) -> Any:
    """The family's member whose wide-network kernel is near the target's covariance.

    Raises:
        ModelError: where that kernel is not known.
    """
    if not isinstance(setting.net, MLP) or not isinstance(
        family, LayerGaussian | LayerHierarchical
    ):
        raise ModelError(
            f"start_wide=True is for perceptrons with LayerGaussian or LayerHierarchical, got {type(setting.net).__name__} "
            f"with {type(family).__name__}: leave it out."
        )
    some = slice(None, None, -(-len(points) // WARM_POINTS))
    values = setting.target.draw(key, points[None], WARM_FUNCTIONS)[0][:, some, 0]
    points = points[some]
    goal = jnp.asarray(values.T @ values / len(values), float)
    blank = LayerGaussian() if isinstance(family, LayerHierarchical) else family
    scales = blank.with_params(
        warm_start(blank, setting.arrays, setting.net.activation, jnp.asarray(points, float), goal)
    ).as_floats()
    if isinstance(family, LayerHierarchical):
        return family.initialised(setting.arrays).as_floats().centred(scales)
    return scales


def optimise(
    settings: OptimizerConfig,
    drawn: FunctionSampler,
    origin: Any,
    parameters: Any,
    target: AbstractTarget,
    measure: PointSampler,
    rng: np.random.Generator,
    key: jax.Array,
    progress: AbstractProgress,
) -> Any:
    """Parameters after all steps, in compiled blocks.

    Raises:
        ModelError: where they are not finite.
    """
    import optax

    state = optax.scale_by_adam().init(parameters)
    knobs = {
        name: jnp.asarray(float(getattr(settings, name)))
        for name in ("steps", "learning_rate", "pull")
    }
    num = settings.num_functions * (2 if settings.loss == WASSERSTEIN else 1)
    progress.start(settings.steps, "matching")
    try:
        for done in range(0, settings.steps, BLOCK):
            count = min(BLOCK, settings.steps - done)
            X = measure.draw(rng, BLOCK)
            draws, *keys = jax.random.split(jax.random.fold_in(key, done), 1 + BLOCK)
            g = target.draw(draws, X, num).reshape(BLOCK, num, -1)
            arrays = jnp.asarray(X, float), jnp.asarray(g, float)
            when = jnp.asarray(done), jnp.asarray(count)
            parameters, state, values = run_block(
                settings.loss,
                settings.num_functions,
                drawn,
                knobs,
                origin,
                parameters,
                state,
                jnp.stack(keys),
                *when,
                *arrays,
            )
            progress.advance(count, distance=f"{float(values[:count].mean()):.4g}")
    finally:
        progress.close()
    if not all(np.isfinite(np.asarray(array)).all() for array in jax.tree.leaves(parameters)):
        raise ModelError(
            "Matching diverged: the prior's numbers are not finite. Lower learning_rate."
        )
    return parameters


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def run_block(
    loss_name: str,
    num_functions: int,
    drawn: FunctionSampler,
    knobs: dict[str, jax.Array],
    origin: Any,
    parameters: Any,
    state: Any,
    keys: jax.Array,
    done: jax.Array,
    count: jax.Array,
    X: jax.Array,
    g: jax.Array,
) -> tuple:
    """`count` steps after the first `done`, each with points and target functions of its own; gives the losses too."""
    import optax

    optimizer = optax.scale_by_adam()

    def distance(parameters: Any, key: jax.Array, X: jax.Array, g: jax.Array) -> jax.Array:
        if loss_name == WASSERSTEIN:
            return wasserstein(lambda k: drawn.sample_many(parameters, X, k, num_functions), g, key)
        f = drawn.sample_many(parameters, X, tagged_key(key, "functions"), num_functions)
        return LOSSES[loss_name](f, g, tagged_key(key, "loss"))

    def loss(parameters: Any, *given: Any) -> jax.Array:
        away = sum(((parameters[name] - value) ** 2).sum() for name, value in origin.items())
        return distance(parameters, *given) + knobs["pull"] * mean_distance(given[-1]) * away

    def step(i: jax.Array, carry: tuple) -> tuple:
        parameters, state, values = carry
        value, gradient = jax.value_and_grad(loss)(parameters, keys[i], X[i], g[i])
        updates, state = optimizer.update(gradient, state, parameters)
        rate = knobs["learning_rate"] * (1 + jnp.cos(jnp.pi * (done + i) / knobs["steps"])) / 2
        return (
            jax.tree.map(lambda p, u: p - rate * u, parameters, updates),
            state,
            values.at[i].set(value),
        )

    return jax.lax.fori_loop(0, count, step, (parameters, state, jnp.zeros(len(X))))
