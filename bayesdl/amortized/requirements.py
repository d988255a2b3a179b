"""Requirements on models and on the settings of `PFN.train`, and hashes that identify programs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from bayesdl.amortized.context import inputs_and_targets, program_arguments
from bayesdl.amortized.trained_network import TrainedNetwork
from bayesdl.data.validation import ModelError
from bayesdl.model.base import AbstractModel
from bayesdl.model.table import TableProgram
from bayesdl.saving.writing import model_data
from inference.amortized.inputs import INPUTS
from inference.amortized.kinds import KINDS
from inference.amortized.steps.optimizer import PRECISIONS
from inference.amortized.tasks import TARGET, Tasks
from inference.core.fingerprint import hash_traced
from inference.core.problem import Problem
from inference.core.program import unwrap
from inference.core.typing import Key, KeywordArguments, Program
from inference.settings import is_whole

# Data with more than this many times the rows of training are refused.
MAX_ROWS_FACTOR = 8

# The least values of settings that are whole numbers.
MINIMA = {
    "max_rows": 1,
    "num_queries": 1,
    "num_classes": 2,
    "bars": 3,
    "width": 1,
    "layers": 1,
    "heads": 1,
    "hidden": 1,
    "frequencies": 0,
    "batch_size": 1,
    "devices": 1,
}


def draw_hash(tasks: Tasks) -> str:
    """Return the hash of one data set's draw, inputs and program.

    It is the same only for the same distribution over data sets.
    """
    with jax.enable_x64(tasks.double):
        return hash_traced(jax.make_jaxpr(tasks.draw_one)(jax.random.key(0)))


def column_range(num_inputs: int | tuple[int, ...]) -> tuple[int, int]:
    """Return the fewest and the most columns.

    Raises:
        ModelError: for anything but one or two whole numbers.
    """
    given = num_inputs if isinstance(num_inputs, tuple) else (num_inputs, num_inputs)
    if (
        len(given) != 2
        or not all(is_whole(number, 0) for number in given)
        or not 1 <= given[0] <= given[1]
    ):
        raise ModelError(
            f"num_inputs={num_inputs!r}: expected a number of at least 1, or (fewest, most)."
        )
    return given[0], given[1]


def check_settings(spec: AbstractModel, low: int, high: int, given: KeywordArguments) -> None:
    """Refuse settings of `PFN.train` that make no sense.

    Args:
        spec: the model.
        low: the fewest columns.
        high: the most columns.
        given: the arguments of `PFN.train` by name.

    Raises:
        ModelError: if an argument makes no sense, naming it.
    """
    if low < high and not spec.ignores_zero_columns(low, high):
        raise ModelError(
            f"num_inputs={(low, high)}: only RandomBNN, and a GP whose kernel does not see columns "
            "that are constant and whose hyperparameters have the same priors for each number of "
            f"columns, take a range, got {spec}. Give lengthscale a prior of its own, or train one "
            "PFN for each number of columns."
        )
    for name, least in MINIMA.items():
        if not is_whole(given[name], least):
            raise ModelError(
                f"{name}={given[name]!r}: expected a whole number of at least {least}."
            )
    if given["width"] % given["heads"]:
        raise ModelError(
            f"width={given['width']}, heads={given['heads']}: "
            "expected a width that the heads divide."
        )
    for name in ("seconds", "gap", "learning_rate"):
        if given[name] is not None and not given[name] > 0:
            raise ModelError(f"{name}={given[name]!r}: expected a positive number.")
    steps, seconds = given["steps"], given["seconds"]
    if (steps is not None and seconds is not None) or (steps is not None and (not is_whole(steps))):
        raise ModelError(
            f"steps={steps!r}, seconds={seconds!r}: expected a whole number of steps of at least "
            "1, or seconds."
        )
    inputs = given["inputs"]
    if not (inputs in INPUTS if isinstance(inputs, str) else callable(inputs)):
        raise ModelError(
            f"inputs={inputs!r}: expected {', '.join(map(repr, INPUTS))} or a function "
            "(key, shape) -> X."
        )
    if given["kind"] not in KINDS:
        raise ModelError(f"kind={given['kind']!r}: expected {' or '.join(map(repr, KINDS))}.")
    if given["kind"] == "cells" and low < high:
        raise ModelError(
            f"num_inputs={(low, high)}: a network of cells is trained for one number of columns; "
            "give one number."
        )
    if given["precision"] not in PRECISIONS:
        raise ModelError(
            f"precision={given['precision']!r}: expected {' or '.join(map(repr, PRECISIONS))}."
        )
    if given["devices"] > jax.device_count() or given["batch_size"] % given["devices"]:
        raise ModelError(
            f"devices={given['devices']}, batch_size={given['batch_size']}: JAX has "
            f"{jax.device_count()} devices, and each takes an equal share of the batch."
        )


def check_program(spec: AbstractModel, tasks: Tasks, num_classes: int) -> None:
    """Refuse a program that cannot be drawn from, or whose target is not one number a row.

    Args:
        spec: the model.
        tasks: the data sets that its program draws.
        num_classes: the number of classes, 0 for real targets.

    Raises:
        ModelError: if the program does not fit, saying what was found.
    """
    rows = tasks.max_rows + tasks.num_queries
    found = _site_shapes(spec, tasks, rows)
    numbers = sorted(
        name
        for name, site in found.items()
        if not site.shape and jnp.issubdtype(site.dtype, jnp.floating)
    )
    for name in tasks.latents:
        if name not in numbers or name == TARGET:
            raise ModelError(
                f"latents={tasks.latents}: '{name}' is no latent site of one real number; "
                f"those are {numbers}."
            )
    if TARGET not in found:
        raise ModelError(
            f"{spec} has no site 'y' to predict, but {sorted(found)}: name the observed site 'y'."
        )
    if found[TARGET].shape != (rows,):
        raise ModelError(
            f"Site 'y' has shape {found['y'].shape} for {rows} rows: expected one target a row, "
            f"shape ({rows},)."
        )
    if not num_classes and not jnp.issubdtype(found[TARGET].dtype, jnp.floating):
        raise ModelError(f"Site 'y' of {spec.name} is {found['y'].dtype}: expected real numbers.")


def _site_shapes(spec: AbstractModel, tasks: Tasks, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shapes and types of the sites of a program with this number of rows.

    Raises:
        ModelError: if the program cannot be drawn from.
    """

    def sites(key: Key, X: jax.Array) -> dict[str, Any]:
        return {
            name: site["value"]
            for name, site in tasks.sites(key, X).items()
            if site["type"] == "sample"
        }

    shape = (rows, tasks.num_inputs[1])
    # A user's program may fail in any way.
    try:
        with jax.enable_x64(tasks.double):
            return jax.eval_shape(sites, jax.random.key(0), jnp.zeros(shape))
    except Exception as error:
        raise ModelError(
            f"{spec} cannot be drawn from as program(X) with X of shape {shape}: {error}. Expected "
            "a NumPyro function of (X, y=None) that uses JAX only and draws y where it is None."
        ) from error


def program_hash(tasks: Tasks) -> str:
    """Return the hash of one draw of the program, its constants included.

    It is the same only for the same program.
    """
    X = jnp.zeros((2, tasks.num_inputs[1]))
    with jax.enable_x64(tasks.double):
        return hash_traced(
            jax.make_jaxpr(lambda key: tasks.sites(key, X)[TARGET]["value"])(jax.random.key(0))
        )


def _function_of(program: Program) -> Program:
    """Return a program without `functools.partial` around it, which fixes nothing."""
    while isinstance(program, functools.partial) and not (program.args or program.keywords):
        program = program.func
    return program


def same_program(one: Program, other: Program) -> bool:
    """Return whether the first program is the second one, which a network was trained on.

    Programs of table models are the same if they are equal as plain data, and may have fewer
    classes if the model says so.
    """
    if _function_of(one) == _function_of(other):
        return True
    if not (isinstance(one, TableProgram) and isinstance(other, TableProgram)):
        return False
    fits = other.model.covers_classes(other.num_targets, one.num_targets)
    data = model_data(one.model)
    # A model that holds code has only the name of the code in its data.
    return fits and data == model_data(other.model) and "code" not in data


def reason_unsupported(trained: TrainedNetwork, problem: Problem) -> str | None:
    """Return why a network cannot answer for a problem; None if it can."""
    program = unwrap(problem.program)
    # The program of a table observes y; finding the sites of another program runs it.
    observes_y = isinstance(program, TableProgram) or problem.observed == (TARGET,)
    if not same_program(program, trained.tasks.program) or not observes_y:
        classes, most = getattr(program, "num_targets", 0), trained.network.shape.num_classes
        if most and isinstance(program, TableProgram) and program.model == trained.model:
            return f"the data have {classes} classes, and it was trained for {most}"
        cure = "fit pfn.model, or train one with bdl.PFN.train"
        return f"it was trained on another model, or another prior of it; {cure}"
    first, *others = (
        name
        for name, value in program_arguments(problem).items()
        if value is not None and name != TARGET
    )
    if others:
        return (
            f"it was trained on functions of {first} and y alone, and argument '{others[0]}' "
            "is given"
        )
    X, _ = inputs_and_targets(problem)
    low, high = trained.tasks.num_inputs
    if not low <= X.shape[1] <= high and not trained.network.any_columns:
        span = str(high) if low == high else f"{low} to {high}"
        return f"X has {X.shape[1]} columns, and it was trained for {span}"
    if len(X) > MAX_ROWS_FACTOR * trained.tasks.max_rows:
        return (
            f"X has {len(X)} rows, and more than {MAX_ROWS_FACTOR} times the "
            f"{trained.tasks.max_rows} that it was trained for are refused"
        )
    return None
