"""Models, likelihoods and engines from the command line's options.

Which models there are, and how each is made, the models say themselves (`command_lines`); engines
and their names come from `bayesdl.engines`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any

from bayesdl.cli.settings import Settings, change, class_by_name, fields, make
from bayesdl.cli.tables import UsageError
from bayesdl.engines import (
    AUTO,
    ENGINES,
    check_supported,
    choose,
    cli_name,
    leaves_model_open,
    plain,
)
from bayesdl.model import likelihoods
from bayesdl.model.base import AbstractModel
from bayesdl.model.examples import CommandLine, Parts
from bayesdl.model.registry import registered_models
from bayesdl.typing import Series
from inference.core.engine import AbstractEngine

LIKELIHOODS = {
    "normal": likelihoods.Normal,
    "student-t": likelihoods.StudentT,
    "bernoulli": likelihoods.Bernoulli,
    "categorical": likelihoods.Categorical,
    "poisson": likelihoods.Poisson,
    "negative-binomial": likelihoods.NegativeBinomial,
}
# where everything is left open, and where an engine or settings are given, which are a network's
DEFAULT_MODEL, MODEL_WITH_SETTINGS = "table", "bnn"
FEW_VALUES = 20  # whole numbers with at most as many values may be classes or counts
FEW_CLASSES, ROWS_EACH = 10, 5  # at most as many values, of as many rows each, are read as classes

Configure = Callable[[AbstractEngine], AbstractEngine]
"""Applies the settings of an engine, once the engine is known."""


def models_by_name() -> dict[str, CommandLine]:
    """Return how each value of `--model` makes its model."""
    return {line.name: line for model in registered_models() for line in model.command_lines()}


def engines_by_name() -> dict[str, type[AbstractEngine]]:
    """Return the engine of each value of `--engine` but "auto"."""
    return {cli_name(engine): engine for engine in ENGINES}


def engine_name(word: str) -> str:
    """Return the name on the command line for a name in any case; an unknown name as it is."""
    names = {plain(name): name for name in ("auto", *engines_by_name())}
    names |= {plain(engine.__name__): name for name, engine in engines_by_name().items()}
    return names.get(plain(word), word)


def default_model(engine: str | None, settings: Collection[str], weighted: bool = False) -> str:
    """Return the name of the model where none is named.

    Args:
        engine: the name of the engine, if any.
        settings: the settings that were given.
        weighted: whether rows have weights, which an average does not take.
    """
    named = weighted or settings or not leaves_model_open(engine or AUTO)
    return MODEL_WITH_SETTINGS if named else DEFAULT_MODEL


def choose_likelihood(
    y: Series, asked: str | None, model: CommandLine, regression: bool = False
) -> tuple[str, str]:
    """Return the name of a likelihood for a target column and, in words, why.

    Args:
        y: the target column.
        asked: the likelihood that was asked for, or None.
        model: how the model is made.
        regression: whether the target is to be read as a number.

    Raises:
        UsageError: for a column of dates, or texts that are no labels.
    """
    if asked is not None and asked not in LIKELIHOODS:
        raise UsageError(
            f"--likelihood {asked} is for formulas: expected one of {', '.join(LIKELIHOODS)}."
        )
    if regression and asked in ("bernoulli", "categorical"):
        raise UsageError(f"--regression --likelihood {asked}: expected one of them, not both.")
    if regression and not asked:
        return "normal", "a regression was asked for"
    if asked:
        return asked, f"the likelihood {asked} was asked for"
    values = y.dropna().unique()
    if y.dtype.kind in "mM":
        raise UsageError(
            f"The target {y.name!r} holds dates: turn it into numbers first, "
            "e.g. days since a start."
        )
    if y.dtype.kind not in "iuf" and len(values):
        _refuse_texts(y, values)
        name = "bernoulli" if len(values) <= 2 else "categorical"
        return name, f"the target {y.name!r} holds {len(values)} labels"
    if len(values) == 2 and not model.only_normal:
        low, high = values.min(), values.max()
        return "bernoulli", f"the target {y.name!r} has two values, {low:g} and {high:g}"
    why = f"the target {y.name!r} holds numbers"
    few = len(values) <= FEW_VALUES and (values == values.round()).all()
    if few and not model.only_normal and len(values) <= min(FEW_CLASSES, len(y) // ROWS_EACH):
        return "categorical", (
            f"the target {y.name!r} holds {len(values)} different whole numbers, read as classes "
            "(--regression reads them as numbers, --likelihood poisson as counts)"
        )
    if few and not model.only_normal:
        why += (
            " (few and whole ones: use --likelihood categorical if they are classes, poisson if "
            "they are counts)"
        )
    return "normal", why


def _refuse_texts(y: Series, values: Any) -> None:
    """Refuse a target of texts that are no labels, such as "300000 CHF".

    Raises:
        UsageError: with an example.
    """
    if len(values) > max(20, len(y) // 2):
        raise UsageError(
            f"The target {y.name!r} holds {len(values)} different texts in {len(y)} rows, e.g. "
            f"{str(values[0])!r:.40}: write them as numbers without units, or as few labels."
        )


def column_names(model: CommandLine, modes: str | None, target: str) -> list[str]:
    """Return the columns that `--modes` names, none for a model without modes.

    Raises:
        UsageError: where modes are missing, have no meaning, or hold the target.
    """
    if model.parts is None:
        if modes is not None:
            able = ", ".join(line.name for line in models_by_name().values() if line.parts)
            raise UsageError(f"--modes {modes}: only --model {able} has modes.")
        return []
    names = [name.strip() for name in (modes or "").split(",") if name.strip()]
    if not names:
        raise UsageError(
            f"--model {model.name} needs --modes with the columns of its indexes, "
            "e.g. --modes temperature,pressure,day."
        )
    if target in names:
        raise UsageError(f"--modes {modes}: {target!r} is the target, expected columns of indexes.")
    return names


def build(
    model: CommandLine, likelihood: str, settings: Settings, columns: Collection[str] = ()
) -> tuple[AbstractModel, Configure]:
    """Return the model, and a function that applies the engine's settings.

    Args:
        model: how the model is made.
        likelihood: one of `LIKELIHOODS`.
        settings: the settings as given; the function checks that each of them belongs somewhere.
        columns: the columns for a model with parts.

    Raises:
        UsageError: for settings that do not exist or have impossible values.
    """
    decided = {"likelihood", *model.fixed, *([model.parts.field] if model.parts else [])}
    noise = LIKELIHOODS[likelihood]
    of_noise = fields(noise)
    known = {"likelihood": make(noise, settings.values("likelihood", of_noise))}
    types, arguments = _spec_from(settings, "model", model.model, model.choices, decided, known)
    if model.parts:
        of_parts, arguments[model.parts.field] = _parts_from(settings, model.parts, columns)
        types |= of_parts
    types["likelihood"] = of_noise
    spec = make(model.model, arguments | known | dict(model.fixed))
    return spec, configured(settings, types)


def _spec_from(
    settings: Settings,
    part: str,
    cls: type,
    choices: Mapping[str, ModuleType],
    decided: Collection[str],
    known: Mapping[str, Any],
) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    """Return the types of a spec's settings by part, and its arguments.

    Args:
        settings: the settings as given.
        part: the name of the spec's own part.
        cls: the class of the spec.
        choices: fields that hold another spec, with the module that has its classes.
        decided: fields that other options decide.
        known: their values, where defaults of `choices` depend on them.
    """
    own = {name: type_ for name, type_ in fields(cls).items() if name not in decided}
    own |= dict.fromkeys(choices, "str")
    types, arguments = {part: own}, settings.values(part, own)
    for field, module in choices.items():
        word = arguments.pop(field, None)
        # the default of the field may differ from that of its class
        start = (
            _default_of(cls, field, known) if word is None else class_by_name(module, field, word)()
        )
        types[field] = fields(type(start))
        arguments[field] = change(start, settings.values(field, types[field]))
    return types, arguments


def _parts_from(
    settings: Settings, parts: Parts, columns: Collection[str]
) -> tuple[dict[str, dict[str, str]], tuple[Any, ...]]:
    """Return the types of the parts' settings, and a part for each column; they differ in name."""
    first = dataclasses.fields(parts.cls)[0].name
    types, arguments = _spec_from(settings, parts.part, parts.cls, parts.choices, {first}, {})
    return types, tuple(make(parts.cls, {first: name, **arguments}) for name in columns)


def _default_of(cls: type, name: str, known: Mapping[str, Any]) -> Any:
    """Return the default of a field; where it is None, what it becomes beside known fields."""
    default = next(field.default for field in dataclasses.fields(cls) if field.name == name)
    return getattr(make(cls, dict(known)), name) if default is None else default


def _configured(
    settings: Settings, types: dict[str, dict[str, str]], engine: AbstractEngine
) -> AbstractEngine:
    """Return the engine with its settings, after each name was found to belong somewhere."""
    names = fields(type(engine))
    settings.check(types | {"engine": names})
    return change(engine, settings.values("engine", names))


def choose_engine(
    name: str,
    model: AbstractModel,
    data: tuple,
    configure: Configure,
    reading: Mapping[str, Any],
) -> tuple[AbstractEngine, str]:
    """Return the engine with its settings and, in words, why it was chosen.

    Args:
        name: one of the names of `--engine`.
        model: the model.
        data: the training data.
        configure: the function that applies the engine's settings.
        reading: how the table is read.

    Raises:
        UnsupportedError: where the engine cannot run the model.
    """
    problem = model.learn(*data, **reading)[1]
    if name == "auto":
        engine, why = choose(problem)
    else:
        engine, why = engines_by_name()[name](), "it was asked for"
    engine = configure(engine)
    check_supported(engine, problem)
    return engine, why


def configured(settings: Settings, parts: Mapping[str, dict[str, str]]) -> Configure:
    """Return the function that applies the settings of an engine, beside those of other parts."""
    return functools.partial(_configured, settings, dict(parts))
