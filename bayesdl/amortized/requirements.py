"""Which models a network can be trained on, and what is known of them beforehand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from bayesdl.data.validation import ModelError
from bayesdl.model.base import AbstractModel
from bayesdl.model.table import TableProgram
from bayesdl.saving.writing import model_data
from inference.amortized.inputs import INPUTS
from inference.amortized.kinds import KINDS
from inference.amortized.tasks import TARGET, Tasks
from inference.amortized.training import PRECISIONS
from inference.core.fingerprint import hash_traced

LEAST = {
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
    """Of one data set's draw, inputs and program: the same for the same distribution over data sets only."""
    with jax.enable_x64(tasks.double):
        return hash_traced(jax.make_jaxpr(tasks.one)(jax.random.key(0)))


def span(num_inputs: Any) -> tuple[int, int]:
    """Fewest and most columns.

    Raises:
        ModelError: for anything but one or two whole numbers.
    """
    given: tuple[Any, ...] = (
        num_inputs if isinstance(num_inputs, tuple) else (num_inputs, num_inputs)
    )
    if (
        len(given) != 2
        or not all(isinstance(number, int) for number in given)
        or not 1 <= given[0] <= given[1]
    ):
        raise ModelError(
            f"num_inputs={num_inputs!r}: expected a number of at least 1, or (fewest, most)."
        )
    return given[0], given[1]


def refuse(spec: AbstractModel, low: int, high: int, given: dict[str, Any]) -> None:
    """Refuses settings of `PFN.train` that make no sense.

    Raises:
        ModelError: naming the argument.
    """
    if low < high and not spec.ignores_zero_columns(low, high):
        raise ModelError(
            f"num_inputs={(low, high)}: only RandomBNN, and a GP whose kernel does not see columns that are constant and whose "
            f"hyperparameters have the same priors for each number of columns, take a range, got {spec}. Give lengthscale a "
            "prior of its own, or train one PFN for each number of columns."
        )
    for name, least in LEAST.items():
        if not isinstance(given[name], int) or given[name] < least:
            raise ModelError(
                f"{name}={given[name]!r}: expected a whole number of at least {least}."
            )
    if given["width"] % given["heads"]:
        raise ModelError(
            f"width={given['width']}, heads={given['heads']}: expected a width that the heads divide."
        )
    for name in ("seconds", "gap", "learning_rate"):
        if given[name] is not None and not given[name] > 0:
            raise ModelError(f"{name}={given[name]!r}: expected a positive number.")
    steps, seconds = given["steps"], given["seconds"]
    if (steps is not None and seconds is not None) or (
        steps is not None and (not isinstance(steps, int) or steps < 1)
    ):
        raise ModelError(
            f"steps={steps!r}, seconds={seconds!r}: expected a whole number of steps of at least 1, or seconds."
        )
    inputs = given["inputs"]
    if not (inputs in INPUTS if isinstance(inputs, str) else callable(inputs)):
        raise ModelError(
            f"inputs={inputs!r}: expected {', '.join(map(repr, INPUTS))} or a function (key, shape) -> X."
        )
    if given["tokens"] not in KINDS:
        raise ModelError(f"tokens={given['tokens']!r}: expected {' or '.join(map(repr, KINDS))}.")
    if given["tokens"] == "cells" and low < high:
        raise ModelError(
            f"num_inputs={(low, high)}: a network of cells is trained for one number of columns; give one number."
        )
    if given["precision"] not in PRECISIONS:
        raise ModelError(
            f"precision={given['precision']!r}: expected {' or '.join(map(repr, PRECISIONS))}."
        )
    if given["devices"] > jax.device_count() or given["batch_size"] % given["devices"]:
        raise ModelError(
            f"devices={given['devices']}, batch_size={given['batch_size']}: JAX has {jax.device_count()} devices, and each "
            "takes an equal share of the batch."
        )


def refuse_program(spec: AbstractModel, tasks: Tasks, num_classes: int) -> None:
    """Refuses a program that cannot be drawn from, or whose target is not one number a row.

    Raises:
        ModelError: saying what was found.
    """
    rows = tasks.max_rows + tasks.num_queries

    def sites(key: jax.Array, X: jax.Array) -> dict:
        return {
            name: site["value"]
            for name, site in tasks.sites(key, X).items()
            if site["type"] == "sample"
        }

    try:
        with jax.enable_x64(tasks.double):
            found = jax.eval_shape(sites, jax.random.key(0), jnp.zeros((rows, tasks.num_inputs[1])))
    except Exception as error:  # a program may fail in any way
        raise ModelError(
            f"{spec} cannot be drawn from as program(X) with X of shape {(rows, tasks.num_inputs[1])}: {error}. Expected a "
            "NumPyro function of (X, y=None) that uses JAX only and draws y where it is None."
        ) from error
    for name in tasks.latents:
        if (
            name not in found
            or found[name].shape
            or not jnp.issubdtype(found[name].dtype, jnp.floating)
            or name == TARGET
        ):
            numbers = sorted(
                k for k, v in found.items() if not v.shape and jnp.issubdtype(v.dtype, jnp.floating)
            )
            raise ModelError(
                f"latents={tasks.latents}: '{name}' is no latent site of one real number; those are {numbers}."
            )
    if TARGET not in found:
        raise ModelError(
            f"{spec} has no site 'y' to predict, but {sorted(found)}: name the observed site 'y'."
        )
    if found[TARGET].shape != (rows,):
        raise ModelError(
            f"Site 'y' has shape {found['y'].shape} for {rows} rows: expected one target a row, shape ({rows},)."
        )
    if not num_classes and not jnp.issubdtype(found[TARGET].dtype, jnp.floating):
        raise ModelError(f"Site 'y' of {spec.name} is {found['y'].dtype}: expected real numbers.")


def program_hash(tasks: Tasks) -> str:
    """Of one draw of the program, its constants included: the same for the same program only."""
    X = jnp.zeros((2, tasks.num_inputs[1]))
    with jax.enable_x64(tasks.double):
        return hash_traced(
            jax.make_jaxpr(lambda key: tasks.sites(key, X)[TARGET]["value"])(jax.random.key(0))
        )


def same_program(one: Any, other: Any) -> bool:
    """Whether the first is the program that a network was trained on: equal, or equal as data, or of fewer classes."""
    if one == other:
        return True
    if not (isinstance(one, TableProgram) and isinstance(other, TableProgram)):
        return False
    fits = other.model.covers_classes(other.num_targets, one.num_targets)
    data = model_data(one.model)
    return (
        fits and data == model_data(other.model) and "code" not in data
    )  # of code only the name is in the data
