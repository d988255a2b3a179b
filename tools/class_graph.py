"""Classes of the packages and what they inherit, found by name through imports and re-exports."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

from tools.import_graph import find_origin
from tools.source_files import Function, Source, list_classes, read_sources


class ClassGraph:
    """The classes of the packages by dotted name, e.g. `inference.engine.AbstractEngine`.

    Attributes:
        sources: the files by module.
        classes: the definitions by dotted name.
        bases: the dotted names of the bases of each class that belong to the packages.
    """

    def __init__(self, root: Path) -> None:
        self.sources = {source.module: source for source in read_sources(root)}
        self._bound = {module: _find_bindings(source) for module, source in self.sources.items()}
        self.classes = {
            f"{module}.{node.name}": node
            for module, source in self.sources.items()
            for node in list_classes(source)
        }
        self.bases = {name: self._find_bases(name) for name in self.classes}

    def resolve(self, expression: ast.expr, module: str) -> str | None:
        """Find the dotted name of the class that an expression in a module names, if any."""
        if isinstance(expression, ast.Subscript):
            expression = expression.value
        if not isinstance(expression, ast.Name | ast.Attribute):
            return None
        return self._follow(f"{module}.{ast.unparse(expression)}")

    def _follow(self, name: str, depth: int = 8) -> str | None:
        """Follow a dotted name through imports to the class that it stands for."""
        if name in self.classes:
            return name
        module = _find_module(name, self.sources)
        if not depth or module is None or module == name:
            return None
        first, *rest = name[len(module) + 1 :].split(".")
        target = self._bound[module].get(first)
        return self._follow(".".join([target, *rest]), depth - 1) if target else None

    def _find_bases(self, name: str) -> list[str]:
        """Find the bases of a class that belong to the packages."""
        module = name.rsplit(".", 1)[0]
        found = (self.resolve(base, module) for base in self.classes[name].bases)
        return [base for base in found if base]

    def list_ancestors(self, name: str) -> list[str]:
        """List a class and all it inherits from, itself first."""
        found = [name]
        for one in found:
            found.extend(base for base in self.bases[one] if base not in found)
        return found

    def find_descendants(self, roots: Collection[str]) -> set[str]:
        """Find the classes that are, or inherit from, a class with one of the bare names."""
        return {
            name
            for name in self.classes
            if any(one.rsplit(".", 1)[1] in roots for one in self.list_ancestors(name))
        }

    def find_attributes(self, name: str) -> dict[str, ast.stmt]:
        """Find the fields and methods that a class defines or inherits, by name."""
        found: dict[str, ast.stmt] = {}
        for one in reversed(self.list_ancestors(name)):
            for node in self.classes[one].body:
                if isinstance(node, Function):
                    found[node.name] = node
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found[node.target.id] = node
        return found


def _find_module(name: str, modules: Collection[str]) -> str | None:
    """Find the longest beginning of a dotted name that is a module."""
    parts = name.split(".")
    beginnings = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in modules), None)


def _find_bindings(source: Source) -> dict[str, str]:
    """Find what the imports of a file bind, in any scope: a dotted name for each name."""
    bound = {}
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom):
            origin = find_origin(node, source)
            bound |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                bound |= {alias.asname: alias.name} if alias.asname else {first: first}
    return bound
