"""Settings given as text: `--set num_samples=500 --set model.hidden=50,50` becomes a model and an engine.

A setting belongs to a part: the model, its likelihood, its prior or kernel, or the engine. The part may be left out
where only one of them has a setting of that name.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from bayesdl import priors
from bayesdl.bnn.spec import BNN
from bayesdl.cli.tables import UsageError
from bayesdl.engines import ENGINES
from bayesdl.gp import kernels
from bayesdl.gp.spec import GP
from bayesdl.model import likelihoods
from bayesdl.tensor.spec import FunBaT, Mode
from inference.core.engine import AbstractEngine

LIKELIHOODS = {
    "normal": likelihoods.Normal,
    "student-t": likelihoods.StudentT,
    "bernoulli": likelihoods.Bernoulli,
    "categorical": likelihoods.Categorical,
    "poisson": likelihoods.Poisson,
    "negative-binomial": likelihoods.NegativeBinomial,
}
ENGINE_NAMES = {
    "CyclicalSGMCMC": "cyclical-sgmcmc",
    "ExactGP": "exact-gp",
    "GPyTorchGP": "gpytorch",
    "PyroNUTS": "pyro",
}
ENGINE_NAMES |= {"MessagePassing": "message-passing"}
ENGINE_BY_NAME = {ENGINE_NAMES.get(cls.__name__, cls.__name__.lower()): cls for cls in ENGINES}

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "tuple": "numbers with commas between them",
    "None": "none",
}

# settings of a model that other options decide, or that hold code
DECIDED = {
    "bnn": {"likelihood", "network"},
    "linear": {"likelihood", "network", "hidden", "activation"},
    "gp": {"likelihood"},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings as (part or None, name, value as text)."""

    entries: tuple[tuple[str | None, str, str], ...]

    @classmethod
    def parse(cls, texts: list[str]) -> Settings:
        """Splits `part.name=value`.

        Raises:
            UsageError: for a text without "=".
        """
        entries = []
        for text in texts:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"--set {text}: expected key=value, e.g. --set num_samples=500.")
            part, _, name = key.strip().rpartition(".")
            entries.append((part or None, name, value.strip()))
        return cls(tuple(entries))

    def check(self, parts: dict[str, dict[str, str]]) -> None:
        """Refuses names that no part has, or that two have.

        Raises:
            UsageError: listing the possible names.
        """
        for part, name, _ in self.entries:
            owners = [
                key for key, fields in parts.items() if part in (None, key) and name in fields
            ]
            if len(owners) == 1:
                continue
            if owners:
                choices = " or ".join(f"{owner}.{name}" for owner in owners)
                raise UsageError(f"--set {name}=... could mean {choices}: write one of them.")
            possible = ", ".join(
                f"{key}.{field}" for key, fields in parts.items() for field in fields
            )
            raise UsageError(
                f"--set {'.'.join(filter(None, (part, name)))}=...: no such setting. Possible: {possible}."
            )

    def of(self, part: str, types: dict[str, str]) -> dict[str, Any]:
        """The values for one part, by name."""
        chosen = [
            (name, text)
            for owner, name, text in self.entries
            if owner in (None, part) and name in types
        ]
        return {name: read(f"{part}.{name}", text, types[name]) for name, text in chosen}


def choose_likelihood(y: Any, asked: str | None, kind: str) -> tuple[str, str]:
    """A likelihood for a target column and, in words, why.

    Raises:
        UsageError: for a column of dates.
    """
    if asked:
        return asked, f"the likelihood {asked} was asked for"
    values = y.dropna().unique()
    if y.dtype.kind in "mM":
        raise UsageError(
            f"The target {y.name!r} holds dates: turn it into numbers first, e.g. days since a start."
        )
    if y.dtype.kind not in "iuf" and len(values):
        name = "bernoulli" if len(values) <= 2 else "categorical"
        return name, f"the target {y.name!r} holds {len(values)} labels"
    if len(values) == 2 and kind != "gp":
        return (
            "bernoulli",
            f"the target {y.name!r} has two values, {values.min():g} and {values.max():g}",
        )
    why = f"the target {y.name!r} holds numbers"
    if kind != "gp" and len(values) <= 20 and (values == values.round()).all():
        why += " (few and whole ones: use --likelihood categorical if they are classes, poisson if they are counts)"
    return "normal", why


def build(
    kind: str, likelihood: str, settings: Settings
) -> tuple[Any, Callable[[AbstractEngine], AbstractEngine]]:
    """The model, and a function that applies the engine's settings once the engine is known.

    Args:
        kind: "bnn", "gp" or "linear".
        likelihood: one of `LIKELIHOODS`.
        settings: as given; the function checks that every name belongs somewhere.

    Raises:
        UsageError: for settings that do not exist or have impossible values.
    """
    model, inner, module = (GP, "kernel", kernels) if kind == "gp" else (BNN, "prior", priors)
    own = {name: type_ for name, type_ in fields(model).items() if name not in DECIDED[kind]} | {
        inner: "str"
    }
    chosen = settings.of("model", own)
    word = chosen.pop(inner, None)
    default = next(field.default for field in dataclasses.fields(model) if field.name == inner)
    classes = {
        inner: type(default) if word is None else named(module, inner, word),
        "likelihood": LIKELIHOODS[likelihood],
    }
    parts = {"model": own} | {part: fields(cls) for part, cls in classes.items()}

    made = {part: make(cls, settings.of(part, parts[part])) for part, cls in classes.items()}
    if word is None:  # the model's default may differ from that of its class
        made[inner] = change(default, settings.of(inner, parts[inner]))
    fixed = {"hidden": ()} if kind == "linear" else {}
    spec = make(model, chosen | made | fixed)

    return spec, functools.partial(configured, settings, parts)


def build_tensor(
    modes: str | None, likelihood: str, settings: Settings
) -> tuple[Any, Callable[[AbstractEngine], AbstractEngine]]:
    """A functional tensor whose modes have one kernel and one rank, as `build` gives other models.

    Args:
        modes: names of columns with commas between them.
        likelihood: one of `LIKELIHOODS`.
        settings: as given.

    Raises:
        UsageError: for settings that do not exist or have impossible values, or no modes.
    """
    names = [name.strip() for name in (modes or "").split(",") if name.strip()]
    if not names:
        raise UsageError(
            "--model funbat needs --modes with the columns of its indexes, e.g. --modes temperature,pressure,day."
        )
    own = {
        name: type_ for name, type_ in fields(FunBaT).items() if name not in ("modes", "likelihood")
    }
    of_modes = {name: type_ for name, type_ in fields(Mode).items() if name != "name"} | {
        "kernel": "str"
    }
    chosen = settings.of("mode", of_modes)
    word = chosen.pop("kernel", None)
    kernel = Mode.kernel if word is None else named(kernels, "kernel", word)()
    parts = {
        "model": own,
        "mode": of_modes,
        "kernel": fields(type(kernel)),
        "likelihood": fields(LIKELIHOODS[likelihood]),
    }
    kernel = change(kernel, settings.of("kernel", parts["kernel"]))
    law = make(LIKELIHOODS[likelihood], settings.of("likelihood", parts["likelihood"]))
    made = tuple(make(Mode, {"name": name, "kernel": kernel, **chosen}) for name in names)
    spec = make(FunBaT, {"modes": made, "likelihood": law, **settings.of("model", own)})

    return spec, functools.partial(configured, settings, parts)


def configured(
    settings: Settings, parts: dict[str, dict[str, str]], engine: AbstractEngine
) -> AbstractEngine:
    """The engine with its settings, after every name was found to belong to it or to a part of the model."""
    names = fields(type(engine))
    settings.check(parts | {"engine": names})
    return change(engine, settings.of("engine", names))


def fields(cls: type) -> dict[str, str]:
    """The settings of a spec that text can give, and their types; those that hold other specs are left out."""
    types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    return {
        name: type_ for name, type_ in types.items() if set(alternatives(type_)) <= {"Any", *TYPES}
    }


def named(module: Any, part: str, word: str) -> type:
    """The prior or kernel with this name, whatever its case.

    Raises:
        UsageError: listing those that can be built from text.
    """
    found: dict[str, type] = {}
    for name, cls in vars(module).items():
        ours = (
            inspect.isclass(cls)
            and cls.__module__.startswith(module.__name__)
            and not name.startswith("Abstract")
        )
        if (
            ours
            and dataclasses.is_dataclass(cls)
            and all(f.default is not dataclasses.MISSING for f in dataclasses.fields(cls))
        ):
            found[name.lower()] = cls
    key = word.lower().replace("-", "").replace("_", "")
    if key not in found:
        raise UsageError(f"--set {part}={word}: expected one of {', '.join(sorted(found))}.")
    return found[key]


def make(cls: type, arguments: dict[str, Any]) -> Any:
    """Builds a spec; what it refuses becomes an error of usage."""
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def change(spec: Any, arguments: dict[str, Any]) -> Any:
    """A copy of a spec with other settings."""
    return (
        make(
            type(spec),
            {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)} | arguments,
        )
        if arguments
        else spec
    )


def alternatives(type_: str) -> list[str]:
    """The types in an annotation such as `float | tuple[float, ...] | None`."""
    return [part.strip().partition("[")[0] for part in type_.split("|")]


def read(key: str, text: str, type_: str) -> Any:
    """A value from text, of the type of its setting.

    Raises:
        UsageError: saying what is expected.
    """
    value, expected = from_text(text), alternatives(type_)
    if (
        "Any" in expected
        or type(value).__name__ in expected
        or (value is None and "None" in expected)
    ):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and "float" in expected:
        return float(value)
    if "str" in expected:
        return text
    if "tuple" in expected and isinstance(value, int | float):
        return (value,)
    raise UsageError(
        f"--set {key}={text}: expected {' or '.join(TYPES[name] for name in expected)}."
    )


def from_text(text: str) -> Any:
    """None, bool, int, float, a comma-separated tuple of these, or the text itself."""
    if "," in text or text == "":
        return tuple(from_text(entry.strip()) for entry in text.split(",") if entry.strip())
    constants = {"none": None, "true": True, "false": False}
    if text.lower() in constants:
        return constants[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
