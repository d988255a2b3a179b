"""The front door of functional priors: `match_prior` tunes a prior, `prior_report` compares one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.networks import MLP
from bayesdl.bnn.spec import BNN
from bayesdl.data.validation import ModelError
from bayesdl.functional.comparison import compare_functions
from bayesdl.functional.draws import FunctionSampler
from bayesdl.functional.measure import PointSampler
from bayesdl.functional.nngp import warm_start
from bayesdl.functional.optimise import optimise, optimizer_config
from bayesdl.functional.problem import MatchingProblem
from bayesdl.functional.report import PriorReport
from bayesdl.priors import LayerGaussian
from bayesdl.priors.base import AbstractPrior
from bayesdl.priors.family import AbstractFamily
from bayesdl.priors.layers import AbstractLayerFamily
from bayesdl.typing import FunctionLoss, Integer, ProgressLike, TableLike
from inference.core.keys import named_key
from inference.core.progress import as_progress
from inference.core.typing import Key

if TYPE_CHECKING:
    NetworkModel: TypeAlias = BNN
    FamilyLike: TypeAlias = AbstractFamily | None
    Family = TypeVar("Family", bound=AbstractFamily)
else:
    # validated here, with errors that say the cure
    NetworkModel = FamilyLike = Family = object

# functions of each side in the report of a matched prior
CHECKED = 500
# points and functions of the target's covariance for a start from the wide-network kernel
WARM_POINTS, WARM_FUNCTIONS = 50, 512


@overload
def match_prior(
    model: NetworkModel,
    *,
    to: object,
    inputs: TableLike,
    family: Family,
    loss: FunctionLoss = ...,
    steps: Integer = ...,
    num_functions: Integer = ...,
    num_points: Integer | None = ...,
    real: float = ...,
    pad: float = ...,
    num_targets: Integer = ...,
    learning_rate: float = ...,
    pull: float = ...,
    start_wide: bool = ...,
    seed: Integer = ...,
    progress: ProgressLike = ...,
) -> Family: ...


# without a family the type follows the model's prior, which type checkers do not see
@overload
def match_prior(
    model: NetworkModel,
    *,
    to: object,
    inputs: TableLike,
    family: None = None,
    loss: FunctionLoss = ...,
    steps: Integer = ...,
    num_functions: Integer = ...,
    num_points: Integer | None = ...,
    real: float = ...,
    pad: float = ...,
    num_targets: Integer = ...,
    learning_rate: float = ...,
    pull: float = ...,
    start_wide: bool = ...,
    seed: Integer = ...,
    progress: ProgressLike = ...,
) -> Any: ...


def match_prior(
    model: NetworkModel,
    *,
    to: object,
    inputs: TableLike,
    family: FamilyLike = None,
    loss: FunctionLoss = "energy",
    steps: Integer = 200,
    num_functions: Integer = 128,
    num_points: Integer | None = None,
    real: float = 0.7,
    pad: float = 0.0,
    num_targets: Integer = 1,
    learning_rate: float = 0.1,
    pull: float = 1e-4,
    start_wide: bool = False,
    seed: Integer = 0,
    progress: ProgressLike = True,
) -> AbstractFamily:
    """Tune the numbers of a weight prior until a network's functions look like the target's.

    Args:
        model: the model whose network is matched; its likelihood and its prior (unless a family
            of `bayesdl.priors`) do not matter.
        to: the functions that are expected: `bdl.GP(kernel)`, a kernel of bayesdl, tinygp or
            GPyTorch, a GP model of GPyTorch, or a function (key, X, num) -> functions, shape
            (num, points) or (num, points, outputs). A GP's hyperparameters that have priors are
            drawn anew for each function (those of GPyTorch must be fixed). Length scales are in
            standard deviations of the input columns, the variance in squared ones of the targets,
            unless standardize=False. Families have one scale for all inputs: a length scale per
            input is matched on average, so rescale the columns instead.
        inputs: the training inputs, as for `bdl.fit`; no targets are needed.
        family: `LayerGaussian()`, `LayerHierarchical()` or `ScaleFlow()`; None for the model's own
            prior where it is one of these, otherwise `LayerGaussian()`. Matching starts from the
            family's numbers.
        loss: the distance: "energy", "sliced_w2", "bures", or "wasserstein", the published dual,
            for comparison.
        steps: the number of steps of the optimiser.
        num_functions: the number of functions drawn of each side per step.
        num_points: the number of points at which functions are compared; None for 100, or fewer
            where there are fewer rows. With one input they are a fixed grid over the inputs'
            range; otherwise they are new at each step.
        real: the share of the points that are rows of inputs; the others are uniform in the box
            around them.
        pad: the margin of the box, or of the grid, on each side, as a share of its width.
        num_targets: the number of target columns, or of classes; all outputs are matched jointly.
        learning_rate: Adam's learning rate at the start; it decays to zero along a cosine.
        pull: the weight of the squared distance from the family's numbers, as logarithms, in
            units of the target's spread; 0 for none.
        start_wide: whether to start with the scales whose wide-network kernel is nearest to the
            target's covariance (perceptrons with layer-wise families only); this needs no draws of
            networks.
        seed: the seed of all draws.
        progress: whether to show a progress bar.

    Returns:
        The matched prior, with floats for each layer: `model.with_prior(prior)` is fitted, saved
        and loaded like any model.

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
    problem = MatchingProblem.from_model(model, to, inputs, num_targets)
    family = _resolve_family(model, family)
    config = optimizer_config(loss, steps, num_functions, learning_rate, pull)
    rng = np.random.default_rng(seed)
    train, held = problem.split_rows(rng)
    points = PointSampler.from_rows(train, num_points, real, pad)
    bar, key = as_progress(progress), jax.random.key(seed)
    sampler, origin = FunctionSampler.from_prior(problem.net, problem.arrays, family)
    start = origin
    if start_wide:
        some, wide_key = points.draw(rng, 1)[0], named_key(key, "wide")
        start = _start_from_wide_network(problem, family, some, wide_key).parameters()
    step_key = named_key(key, "steps")
    parameters = optimise(
        config, sampler, origin, start, problem.target, points, rng, step_key, bar
    )
    prior = family.with_params(parameters).as_floats()
    held_points = PointSampler.from_rows(held, num_points if held is train else None, real, pad)
    report = compare_functions(problem, prior, held_points.draw(rng, 1)[0], CHECKED, seed)
    bar.note(report.line)
    if not report.close:
        warnings.warn(f"The matched prior is not near the target. {report.line}", stacklevel=2)
    return prior


def prior_report(
    model: NetworkModel,
    *,
    to: object,
    inputs: TableLike,
    at: TableLike | None = None,
    num_functions: Integer = 1000,
    num_points: Integer | None = None,
    real: float = 0.7,
    pad: float = 0.0,
    num_targets: Integer = 1,
    seed: Integer = 1,
) -> PriorReport:
    """Compare the functions of a model's prior with those of a target.

    Args:
        model: a model with any prior, matched or not.
        to: the target, as for `match_prior`.
        inputs: the training inputs, which give the units.
        at: the rows at which to compare, best rows that were not matched on; None for the
            training inputs.
        num_functions: the number of functions drawn of each side.
        num_points: the number of points, as for `match_prior`.
        real: the share of the points that are rows, as for `match_prior`.
        pad: the margin of the box or the grid, as for `match_prior`.
        num_targets: the number of target columns, or of classes.
        seed: the seed of all draws.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-3, 3, 50)[:, None]
        >>> gp = bdl.GP(bdl.kernels.RBF(lengthscale=0.8, variance=1.0))
        >>> prior_report(bdl.BNN(hidden=(20,)), to=gp, inputs=x, num_functions=200).close
        False
    """
    problem = MatchingProblem.from_model(model, to, inputs, num_targets)
    rows = problem.rows if at is None else problem.columns.read(at)
    points = PointSampler.from_rows(rows, num_points, real, pad)
    some = points.draw(np.random.default_rng(seed), 1)[0]
    return compare_functions(problem, model.prior, some, num_functions, seed)


def _resolve_family(model: BNN, family: object) -> AbstractFamily:
    """Return the prior to tune.

    Raises:
        ModelError: where it has nothing to tune.
    """
    if family is None:
        family = model.prior if model.prior.tunable else LayerGaussian()
    if isinstance(family, type):
        raise ModelError(f"family={family.__name__}: brackets are missing, {family.__name__}().")
    if isinstance(family, AbstractPrior) and family.instead_of_matching:
        raise ModelError(family.instead_of_matching)
    if not isinstance(family, AbstractFamily):
        raise ModelError(
            f"family={family!r} cannot be matched: expected LayerGaussian(), LayerHierarchical() "
            "or ScaleFlow() of bdl.priors."
        )
    return family


def _start_from_wide_network(
    problem: MatchingProblem, family: AbstractFamily, points: np.ndarray, key: Key
) -> AbstractFamily:
    """Return the family's member whose wide-network kernel is near the target's covariance.

    Raises:
        ModelError: where that kernel is not known.
    """
    net = problem.net
    if not isinstance(net, MLP) or not isinstance(family, AbstractLayerFamily):
        raise ModelError(
            "start_wide=True is for perceptrons with LayerGaussian or LayerHierarchical, got "
            f"{type(net).__name__} with {type(family).__name__}: leave it out."
        )
    some = slice(None, None, -(-len(points) // WARM_POINTS))
    values = problem.target.draw(key, points[None], WARM_FUNCTIONS)[0][:, some, 0]
    X = jnp.asarray(points[some], float)
    goal = jnp.asarray(values.T @ values / len(values), float)
    blank = family.with_fixed_scales()
    parameters = warm_start(blank, problem.arrays, net.activation, X, goal)
    scales = blank.with_params(parameters).as_floats()
    return family.initialised(problem.arrays).as_floats().centred_at(scales)
