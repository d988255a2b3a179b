"""Source files of the packages as syntax trees; nothing is imported.

Works on any layout: a flat one and one with folders.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("bayesdl", "inference")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One source file.

    Attributes:
        path: the path from the root, with forward slashes.
        module: the dotted name, without `__init__`.
        text: the text of the file.
        tree: the syntax tree of the text.
    """

    path: str
    module: str
    text: str
    tree: ast.Module

    @functools.cached_property
    def lines(self) -> list[str]:
        """Return the lines of the text."""
        return self.text.splitlines()

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """Return all nodes of the tree."""
        return list(ast.walk(self.tree))

    @property
    def name(self) -> str:
        """Return the name of the file, e.g. `engine.py`."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Return the folder of the file, e.g. `inference/vi`."""
        return self.path.rsplit("/", 1)[0]

    @property
    def is_package(self) -> bool:
        """Whether the file is an `__init__.py`."""
        return self.name == "__init__.py"


def read_sources(root: Path, packages: Sequence[str] = PACKAGES) -> list[Source]:
    """Read all files of the packages, in alphabetical order."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return [_read_source(root, path, path.stat().st_mtime_ns) for path in paths]


def read_files(root: Path, packages: Sequence[str] = PACKAGES) -> list[Source]:
    """Read all files of the packages but the `__init__.py`."""
    return [source for source in read_sources(root, packages) if not source.is_package]


@functools.lru_cache(maxsize=2048)
def _read_source(root: Path, path: Path, changed: int) -> Source:
    """Read one file; `changed`, its time of change, only renews the cache."""
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Source(relative.as_posix(), module, text, ast.parse(text))


def list_functions(source: Source) -> list[Function]:
    """List all functions of a file: methods and nested ones too."""
    return [node for node in source.nodes if isinstance(node, Function)]


def list_module_functions(source: Source) -> list[Function]:
    """List the functions at the top level of a file."""
    return [node for node in source.tree.body if isinstance(node, Function)]


def list_classes(source: Source) -> list[ast.ClassDef]:
    """List all classes of a file."""
    return [node for node in source.nodes if isinstance(node, ast.ClassDef)]


def list_parameters(function: Function) -> list[ast.arg]:
    """List the parameters of a function, with `*args` and `**kwargs`, without `self` and `cls`."""
    args = function.args
    stars = [star for star in (args.vararg, args.kwarg) if star]
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, *stars]
    return [arg for arg in every if arg.arg not in ("self", "cls")]


def is_any(annotation: ast.expr | None) -> bool:
    """Whether an annotation is exactly `Any`."""
    return annotation is not None and ast.unparse(annotation) in ("Any", "typing.Any")
