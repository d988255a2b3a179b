"""Settings given as text: `--set num_samples=500 --set model.hidden=50,50`.

A setting belongs to a part: the model, its likelihood, its prior or kernel, or the engine. The
part may be left out where only one of them has a setting of that name. What they build stands in
`bayesdl.cli.building`.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from types import ModuleType
from typing import Any, TypeVar

from bayesdl.cli.tables import UsageError

S = TypeVar("S")

# How each type of a setting is called in messages. Text can give a setting whose annotation has
# one of them, or one of `OPEN`.
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "tuple": "numbers with commas between them",
    "Literal": "a word",
    "None": "none",
}
OPEN = {"Any", "ArrayLike"}
UNIONS = (typing.Union, types.UnionType)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings as they were given.

    Attributes:
        entries: the part or None, the name and the text of each setting.
    """

    entries: tuple[tuple[str | None, str, str], ...]

    @classmethod
    def parse(cls, texts: list[str]) -> Settings:
        """Split each `part.name=value`.

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
        """Refuse names that no part has, or that two have.

        Args:
            parts: the settings of each part with their types.

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
            key = ".".join(filter(None, (part, name)))
            raise UsageError(f"--set {key}=...: no such setting. Possible: {possible}.")

    def values(self, part: str, types: dict[str, str]) -> dict[str, Any]:
        """Return the values for one part, by name.

        Args:
            part: the name of the part.
            types: its settings with their types.
        """
        given = [
            (name, text)
            for owner, name, text in self.entries
            if owner in (None, part) and name in types
        ]
        return {name: _read(f"{part}.{name}", text, types[name]) for name, text in given}


def fields(cls: type) -> dict[str, str]:
    """Return the settings of a spec that text can give, and their types.

    Those that hold other specs alone are left out.
    """
    types = {field.name: _spelled_out(str(field.type), cls) for field in dataclasses.fields(cls)}
    return {
        name: type_
        for name, type_ in types.items()
        if set(_alternatives(type_)) & {*OPEN, *TYPES} - {"None"}
    }


def _spelled_out(type_: str, cls: type) -> str:
    """Return an annotation with the types that an alias of its module stands for."""
    # a field may come from a base class, whose module has its alias
    known = {}
    for base in cls.__mro__:
        known = vars(sys.modules[base.__module__]) | known
    parts = []
    for part in type_.split("|"):
        alias = known.get(part.strip())
        hints = typing.get_args(alias) if typing.get_origin(alias) in UNIONS else (alias,)
        names = [_name_of(hint) for hint in hints if hint is not None]
        # a class stands for itself, an alias of a plain type (`ChainStart = str`) for that
        known_type = not names or (isinstance(alias, type) and names[0] not in TYPES)
        parts.append(part.strip() if known_type else " | ".join(names))
    return " | ".join(parts)


def _name_of(hint: object) -> str:
    """Return the name of a type without its arguments."""
    origin = typing.get_origin(hint) or hint
    return "None" if origin is type(None) else getattr(origin, "__name__", str(origin))


def _alternatives(type_: str) -> list[str]:
    """Return the types in an annotation such as `float | tuple[float, ...] | None`."""
    return [part.strip().partition("[")[0] for part in type_.split("|")]


def class_by_name(module: ModuleType, part: str, word: str) -> type:
    """Return the prior or kernel with this name, whatever its case.

    Raises:
        UsageError: listing those that can be built from text.
    """
    found: dict[str, type] = {}
    for name, cls in vars(module).items():
        ours = (
            inspect.isclass(cls)
            # kernels are listed in one module and stand in others of this package
            and cls.__module__.partition(".")[0] == module.__name__.partition(".")[0]
            and not name.startswith("Abstract")
        )
        if (
            ours
            and dataclasses.is_dataclass(cls)
            and all(field.default is not dataclasses.MISSING for field in dataclasses.fields(cls))
        ):
            found[name.lower()] = cls
    key = word.lower().replace("-", "").replace("_", "")
    if key not in found:
        raise UsageError(f"--set {part}={word}: expected one of {', '.join(sorted(found))}.")
    return found[key]


def make(cls: type[S], arguments: dict[str, Any]) -> S:
    """Build a spec; what it refuses becomes an error of usage."""
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def change(spec: S, arguments: dict[str, Any]) -> S:
    """Return a copy of a spec with other settings."""
    if not arguments:
        return spec
    fields_now: Any = spec
    settings = {field.name: getattr(spec, field.name) for field in dataclasses.fields(fields_now)}
    return make(type(spec), settings | arguments)


def _read(key: str, text: str, type_: str) -> Any:
    """Return a value from text, of the type of its setting.

    Raises:
        UsageError: saying what is expected.
    """
    value, expected = _from_text(text), _alternatives(type_)
    if (
        OPEN & set(expected)
        or type(value).__name__ in expected
        or (value is None and "None" in expected)
    ):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and "float" in expected:
        return float(value)
    if "str" in expected or "Literal" in expected:
        return text
    if "tuple" in expected and isinstance(value, int | float):
        return (value,)
    words = dict.fromkeys(TYPES[name] for name in expected if name in TYPES)
    raise UsageError(f"--set {key}={text}: expected {' or '.join(words)}.")


def _from_text(text: str) -> Any:
    """Return None, a bool, an int, a float, a tuple of these from commas, or the text itself."""
    if "," in text or text == "":
        return tuple(_from_text(entry.strip()) for entry in text.split(",") if entry.strip())
    constants = {"none": None, "true": True, "false": False}
    if text.lower() in constants:
        return constants[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
